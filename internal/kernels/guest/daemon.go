package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// daemonFile is where the command outside puts sluice-probe.
const daemonFile = "/sluice-probe"

const daemonSocket = "/tmp/sluice-probe.sock"

func daemonTrials() []trial {
	return []trial{{"sluice-probe: counts, confined, and leaves nothing", oldest, daemon}}
}

// daemon runs sluice-probe with its built-in object beside a service.
func daemon(ctx context.Context) (err error) {
	s, err := start(groups+"served", nil, "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer s.stop()
	var log bytes.Buffer
	cmd := exec.CommandContext(ctx, daemonFile, "--cgroup", string(s.group), "--history", "none", "--listen", "unix:"+daemonSocket)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the daemon: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = daemonCounts(ctx, s)
	if err == nil {
		err = confined(cmd.Process.Pid)
	}
	err = errors.Join(err, cmd.Process.Signal(unix.SIGTERM), <-ended)
	if err != nil {
		return fmt.Errorf("%w; the daemon said:\n%s", err, log.String())
	}
	return unoccupied(string(s.group))
}

// daemonCounts waits for the daemon, sends requests and asks for them.
func daemonCounts(ctx context.Context, s *service) error {
	client, err := wire.Dial("unix:"+daemonSocket, wire.Config{})
	if err != nil {
		return err
	}
	defer client.Close()
	const loading = 20 * time.Second // and verifying, and testing itself, in an emulated machine
	if err := within(ctx, loading, func() error { return client.Healthy(ctx) }); err != nil {
		return err
	}
	total, err := http1.send(ctx, s.socks[0].addr, 20)
	if err != nil {
		return err
	}
	group, err := s.group.ID()
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddrPort(s.socks[0].addr)
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		status, err := client.Snapshot(ctx)
		if err != nil {
			return err
		}
		if status.Mismatch != "" {
			return errors.New(status.Mismatch)
		}
		return total.compare(probe.Counts{}, status.Workloads[probe.Workload{Cgroup: group, Addr: addr}])
	})
}

// confined reports whether every thread of a process has given up what it can.
func confined(pid int) error {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		return err
	}
	if len(threads) == 0 {
		return errors.New("the daemon has ended")
	}
	for _, file := range threads {
		raw, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("looking at a thread of the daemon: %w", err)
		}
		status := string(raw)
		for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
			if !strings.Contains(status, want) {
				return fmt.Errorf("the status of a thread of the daemon, %s, lacks %q", file, want)
			}
		}
	}
	return nil
}

// unoccupied reports what is left at a control group.
func unoccupied(dir string) error {
	group, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer group.Close()
	for _, at := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupSockOps} {
		left, err := link.QueryPrograms(link.QueryOptions{Target: int(group.Fd()), Attach: at})
		if err != nil {
			return fmt.Errorf("asking what is attached to %s: %w", dir, err)
		}
		if len(left.Programs) > 0 {
			return fmt.Errorf("%d programs are left at %v", len(left.Programs), at)
		}
	}
	return nil
}
