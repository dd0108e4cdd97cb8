package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/agent"
	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/confine"
)

// noBPFFSError means that there is no place for pins.
type noBPFFSError struct{ err error }

func (e *noBPFFSError) Error() string { return e.err.Error() }

func (e *noBPFFSError) Unwrap() error { return e.err }

func (e *noBPFFSError) Hint() string {
	return "mount it (mount -t bpf bpf /sys/fs/bpf), in Kubernetes as a hostPath volume; or use --pin none"
}

// privilegeError means that the process may not do its work.
type privilegeError struct{ missing []confine.Capability }

func (e *privilegeError) Error() string {
	return fmt.Sprintf("loading eBPF needs the capabilities %v, which this process does not have", e.missing)
}

func (e *privilegeError) Hint() string {
	return "run it as root (sudo), or in a container with the capabilities BPF, NET_ADMIN and PERFMON; all others are given up after the start"
}

// privileged looks for the capabilities that the start needs; they are kept.
func privileged() error {
	var missing []confine.Capability
	for _, c := range []confine.Capability{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON} {
		has, err := confine.Held(c)
		if err != nil {
			return err
		}
		if !has {
			missing = append(missing, c)
		}
	}
	if len(missing) > 0 {
		return &privilegeError{missing}
	}
	return nil
}

// namespaceError means that a container sees its own control groups only.
type namespaceError struct{ dir string }

func (e *namespaceError) Error() string {
	return fmt.Sprintf("the control groups at %s are not those of the whole machine", e.dir)
}

func (e *namespaceError) Hint() string {
	return "in a container, mount the host's /sys/fs/cgroup (a hostPath volume) and name it with --cgroup; or name the group to measure"
}

// rootID is the id of the machine's root control group.
const rootID = 1

// isWhole reports that a mount shows a part of the tree only: to measure just
// that by default would look like a machine without any requests.
func isWhole(root string) error {
	id, err := cgroup.Group(root).ID()
	if err != nil {
		return err
	}
	if id != rootID {
		return &namespaceError{root}
	}
	return nil
}

// isCgroup2 reports what is wrong with a control group's folder.
func isCgroup2(dir string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("reading the control group %s: %w", dir, err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		root, err := cgroup.Root()
		if err != nil {
			return fmt.Errorf("%s is no version 2 control group: %w", dir, err)
		}
		return fmt.Errorf("%s is no version 2 control group, want a folder at or below %s", dir, root)
	}
	return nil
}

// hintOf is the advice that comes with an error, if any.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted) && hinted.Hint() != "":
		return hinted.Hint()
	case errors.Is(err, cgroup.ErrNoV2):
		return "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or mount it: mount -t cgroup2 none DIR"
	case errors.Is(err, ebpf.ErrNotSupported):
		return "this kernel is too old, or was built without something: Linux 5.10 and newer with CONFIG_CGROUP_BPF"
	case errors.Is(err, fs.ErrNotExist):
		return "is the path right? it is read on the machine, or in the container, that sluice-probe runs in"
	}
	return ""
}

// clean removes what a daemon has left that was killed, or ended with --keep:
// pins, a socket on which nobody answers, control groups of a self-test.
func clean(o *options, stdout io.Writer) error {
	for _, address := range append(list{}, o.listen...) {
		if err := cleanSocket(address, stdout); err != nil {
			return err
		}
	}
	if len(o.listen) == 0 {
		if err := cleanSocket(defaultSocket, stdout); err != nil {
			return err
		}
	}
	if err := cleanPins(o.pin, stdout); err != nil {
		return err
	}
	return agent.CleanSelfTests(o.cgroup)
}

func cleanPins(dir string, stdout io.Writer) error {
	if _, err := os.Stat(dir); dir == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	pins, err := bpf.OpenPins(dir) // a *bpf.BusyError if a daemon holds it
	if err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return errors.Join(fmt.Errorf("cleaning up: %w", err), pins.Close())
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if err := bpf.RemovePins(dir, names...); err != nil {
		return errors.Join(fmt.Errorf("cleaning up: %w", err), pins.Close())
	}
	fmt.Fprintf(stdout, "removed %s with %d pins\n", filepath.Clean(dir), len(names))
	return pins.Close()
}

func cleanSocket(address string, stdout io.Writer) error {
	path, ok := strings.CutPrefix(address, "unix:")
	if !ok {
		return nil
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return fmt.Errorf("cleaning up: a sluice-probe serves %s: end it first", address)
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		return nil // not there, or no socket of ours
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("cleaning up: %w", err)
	}
	fmt.Fprintf(stdout, "removed %s\n", path)
	return nil
}
