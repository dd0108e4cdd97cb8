// Package cgroup makes and removes version 2 control groups.
//
// A group is how Sluice knows what belongs to a version of a service: every
// process it starts, and every process those start, stays in the group, so that
// ending the group leaves nothing behind.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrNoV2 means that no cgroup v2 file system is mounted.
var ErrNoV2 = errors.New("no cgroup v2 file system is mounted (it is listed in no line of the mount table)")

// Root returns where the cgroup v2 file system is mounted. On hybrid systems
// that is a folder below the version 1 hierarchies.
func Root() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("looking for cgroup v2: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", ErrNoV2
}

// Group is the folder of a control group.
type Group string

// Create makes the group and its parents. A group that exists is used as it is.
func Create(dir string) (Group, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making control group: %w", err)
	}
	return Group(dir), nil
}

// ID returns the number by which the kernel and eBPF programs know the group.
func (g Group) ID() (uint64, error) {
	info, err := os.Stat(string(g))
	if err != nil {
		return 0, fmt.Errorf("reading control group: %w", err)
	}
	return info.Sys().(*syscall.Stat_t).Ino, nil
}

// Processes lists the processes in the group and in the groups below it.
// Processes that have ended but were not waited for do not count.
func (g Group) Processes() ([]int, error) {
	var pids []int
	err := filepath.WalkDir(string(g), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, line := range strings.Fields(string(raw)) {
			pid, err := strconv.Atoi(line)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			pids = append(pids, pid)
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return nil, nil // removed meanwhile
	}
	if err != nil {
		return nil, fmt.Errorf("listing the processes of control group %s: %w", g, err)
	}
	return pids, nil
}

// Kill ends every process in the group, without giving it a say, and waits
// until they are gone.
func (g Group) Kill(ctx context.Context) error {
	for {
		pids, err := g.Processes()
		if err != nil || len(pids) == 0 {
			return err
		}
		// cgroup.kill (Linux 5.14) cannot be outrun by a process that forks.
		if os.WriteFile(filepath.Join(string(g), "cgroup.kill"), []byte("1"), 0) != nil {
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("ending control group %s: %d processes are left: %w", g, len(pids), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Remove ends every process in the group and removes it with the groups below.
// It is no error if the group does not exist.
func (g Group) Remove(ctx context.Context) error {
	if err := g.Kill(ctx); err != nil {
		return err
	}
	var dirs []string
	_ = filepath.WalkDir(string(g), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := removeDir(ctx, dirs[i]); err != nil {
			return fmt.Errorf("removing control group: %w", err)
		}
	}
	return nil
}

// removeDir removes one empty group; the kernel says busy for a moment after
// the last process has gone.
func removeDir(ctx context.Context, dir string) error {
	for {
		err := os.Remove(dir)
		if !errors.Is(err, syscall.EBUSY) {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}
