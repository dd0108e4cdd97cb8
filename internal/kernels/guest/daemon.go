package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// daemonFile is where the command outside puts sluice-probe.
const daemonFile = "/sluice-probe"

const daemonSocket = "/tmp/sluice-probe.sock"

func daemonTrials() []trial {
	return []trial{{"sluice-probe: counts, repairs, confined", oldest, daemon}}
}

// daemon runs sluice-probe with its built-in object beside a service.
func daemon(ctx context.Context) (err error) {
	s, err := start(groups+"served", nil, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.stop()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, "/proc/self/exe", limitVerb, daemonFile, "--cgroup", string(s.group), "--history", "none", "--listen", "unix:"+daemonSocket)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = watched(ctx, s, cmd.Process.Pid)
	err = errors.Join(err, cmd.Process.Signal(unix.SIGTERM), <-ended)
	if err != nil {
		return fmt.Errorf("%w; the daemon said:\n%s", err, log.String())
	}
	return unoccupied(string(s.group))
}

// limit becomes another program, which has the capabilities of the DaemonSet.
func limit(args []string) error {
	runtime.LockOSThread() // whose limits they are
	has := []int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON, unix.CAP_SYS_RESOURCE}
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(has, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("giving up capability %d: %w", c, err)
		}
	}
	return unix.Exec(args[0], args, os.Environ())
}

// watched waits for the daemon, sends requests and asks for them, before and
// after somebody replaces one of its programs.
func watched(ctx context.Context, s *service, pid int) error {
	client, err := wire.Dial("unix:"+daemonSocket, wire.Config{})
	if err != nil {
		return err
	}
	defer client.Close()
	const loading = 20 * time.Second // and verifying, and testing itself, in an emulated machine
	if err := within(ctx, loading, func() error { return client.Healthy(ctx) }); err != nil {
		return err
	}
	if err := daemonCounts(ctx, client, s); err != nil {
		return err
	}
	if err := confined(pid); err != nil {
		return err
	}
	if err := replaced(ctx, client); err != nil {
		return err
	}
	return daemonCounts(ctx, client, s)
}

// daemonCounts sends requests and asks the daemon for them.
func daemonCounts(ctx context.Context, client *wire.Client, s *service) error {
	group, err := s.group.ID()
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(s.socks[0].addr)
	if err != nil {
		return err
	}
	workload := probe.Workload{Cgroup: group, Addr: addr}
	before, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	total, err := http1.send(ctx, addr.String(), 20)
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := client.Snapshot(ctx)
		if err != nil {
			return err
		}
		return total.compare(before.Workloads[workload], after.Workloads[workload])
	})
}

// replaced puts another program into the place of one of the daemon's, and waits
// until the daemon has loaded its own again, with the few privileges it has left.
func replaced(ctx context.Context, client *wire.Client) error {
	status, err := client.Snapshot(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(status.Loaded.Programs, func(p bpf.LoadedProgram) bool { return p.Name == "egress" })
	if i < 0 {
		return errors.New("the daemon has no program egress")
	}
	l, err := link.NewFromID(link.ID(status.Loaded.Programs[i].LinkID))
	if err != nil {
		return fmt.Errorf("opening a link of the daemon's: %w", err)
	}
	defer l.Close()
	other, err := passAll(ebpf.AttachCGroupInetEgress)
	if err != nil {
		return err
	}
	defer other.Close()
	if err := l.Update(other); err != nil {
		return fmt.Errorf("replacing a program of the daemon's: %w", err)
	}
	const repair = 10 * time.Second
	return within(ctx, repair, func() error {
		status, err := client.Snapshot(ctx)
		if err == nil && !strings.Contains(status.Mismatch, "repaired") {
			err = fmt.Errorf("the daemon has put nothing right; it says %q", status.Mismatch)
		}
		return err
	})
}
