package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

// A hierarchy is one tree of control groups, mounted somewhere. Old machines
// have one for every controller, and one of version 2 without any beside them.
type hierarchy struct {
	Controllers string // "memory", "cpu,cpuacct", "name=systemd"; "" is version 2
	Mount       string
	Own         string // the group that this process is in, below Mount
}

// hierarchies reads what is mounted in this mount namespace.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	groups, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("looking for control groups: %w", err)
	}
	found := parseHierarchies(string(mounts), string(groups))
	if !slices.ContainsFunc(found, hierarchy.v2) {
		return nil, fmt.Errorf("looking for control groups: %w", cgroup.ErrNoV2)
	}
	return found, nil
}

// parseHierarchies takes the texts of /proc/self/mounts and /proc/self/cgroup.
func parseHierarchies(mounts, groups string) []hierarchy {
	var found []hierarchy
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		controllers := parts[1]
		for mount := range strings.Lines(mounts) {
			f := strings.Fields(mount)
			if len(f) < 4 {
				continue
			}
			options := strings.Split(f[3], ",")
			v2 := controllers == "" && f[2] == "cgroup2"
			v1 := controllers != "" && f[2] == "cgroup" && !slices.ContainsFunc(strings.Split(controllers, ","), func(c string) bool { return !slices.Contains(options, c) })
			if v1 || v2 {
				found = append(found, hierarchy{controllers, f[1], parts[2]})
				break
			}
		}
	}
	return found
}

func (h hierarchy) v2() bool { return h.Controllers == "" }

// group is where a group of the name belongs: below our own, so that the limits
// that we have hold for it. In version 2 that is impossible, since a group with
// processes has no groups with controllers below it: it goes below the root.
func (h hierarchy) group(name string) string {
	if h.v2() {
		return filepath.Join(h.Mount, name)
	}
	return filepath.Join(h.Mount, h.Own, name)
}

// makeGroups makes one group in every hierarchy and returns their folders.
func makeGroups(all []hierarchy, name string) ([]string, error) {
	var dirs []string
	for _, h := range all {
		dir := h.group(name)
		if _, err := cgroup.Create(dir); err != nil {
			return dirs, err
		}
		dirs = append(dirs, dir)
		if !slices.Contains(strings.Split(h.Controllers, ","), "cpuset") {
			continue
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // empty in a new group, which then takes no process
			value, err := os.ReadFile(filepath.Join(filepath.Dir(dir), file))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), value, 0)
			}
			if err != nil {
				return dirs, fmt.Errorf("making control group: %w", err)
			}
		}
	}
	return dirs, nil
}

// rootGroups starts a cgroup namespace in which the groups that this process is
// in are the roots, and mounts that view. It must run on the thread that starts
// the children, which then live in the namespace.
func rootGroups(all []hierarchy) error {
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("starting a cgroup namespace: %w", err)
	}
	return mountGroups(all)
}

// mountGroups mounts every hierarchy below /sys/fs/cgroup.
func mountGroups(all []hierarchy) error {
	const top = "/sys/fs/cgroup"
	if len(all) == 1 {
		if err := mount("cgroup2", top, "cgroup2", 0, ""); err != nil {
			return err
		}
		return delegate(top)
	}
	if err := mount("tmpfs", top, "tmpfs", 0, "mode=755"); err != nil {
		return err
	}
	for _, h := range all {
		dir, kind, options := filepath.Join(top, strings.TrimPrefix(h.Controllers, "name=")), "cgroup", h.Controllers
		if strings.HasPrefix(options, "name=") {
			options = "none," + options
		}
		if h.v2() {
			dir, kind = filepath.Join(top, "unified"), "cgroup2"
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("mounting control groups: %w", err)
		}
		if err := mount(kind, dir, kind, 0, options); err != nil {
			return err
		}
	}
	return nil
}

// delegate makes room for groups with controllers below the root of a version 2
// hierarchy: its processes, which is us, move into a leaf.
func delegate(root string) error {
	leaf, err := cgroup.Create(filepath.Join(root, "system"))
	if err != nil {
		return err
	}
	if err := join(string(leaf)); err != nil {
		return err
	}
	has, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("reading controllers: %w", err)
	}
	for controller := range strings.FieldsSeq(string(has)) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+controller), 0); err != nil {
			return fmt.Errorf("enabling controller %s: %w", controller, err)
		}
	}
	return nil
}

// join moves this process into groups.
func join(dirs ...string) error {
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("joining control group: %w", err)
		}
	}
	return nil
}

// removeGroups ends everything in the groups and removes them.
func removeGroups(ctx context.Context, dirs []string) error {
	var errs []error
	for _, dir := range dirs {
		if !strings.HasPrefix(filepath.Base(dir), groupPrefix) {
			errs = append(errs, fmt.Errorf("%s is not a control group of a cluster", dir))
			continue
		}
		errs = append(errs, cgroup.Group(dir).Remove(ctx))
	}
	return errors.Join(errs...)
}

func mount(source, target, kind string, flags uintptr, options string) error {
	if err := syscall.Mount(source, target, kind, flags, options); err != nil {
		return fmt.Errorf("mounting %s at %s: %w", kind, target, err)
	}
	return nil
}
