package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

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
