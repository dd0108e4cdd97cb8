package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// reap collects the dead processes that were left to process 1. Those that this
// program started itself are collected by whoever waits for them, at once: what
// is dead for longer is nobody's.
func reap() {
	before := map[int]bool{}
	for {
		time.Sleep(time.Second)
		now := map[int]bool{}
		for _, pid := range dead() {
			if !before[pid] {
				now[pid] = true
				continue
			}
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
		before = now
	}
}

// dead lists the children of this process that are zombies.
func dead() []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var pid, parent int
		var status string
		_, after, _ := strings.Cut(string(raw), ") ") // the name may hold anything
		if _, err := fmt.Sscan(after, &status, &parent); err != nil || status != "Z" || parent != os.Getpid() {
			continue
		}
		if _, err := fmt.Sscan(string(raw), &pid); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
