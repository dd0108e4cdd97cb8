package main

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A meter reads what the pods of a gate cost from their control groups.
type meter struct {
	mu     sync.Mutex
	cancel func()
	done   chan struct{}

	cpu    time.Duration // of processor time
	memory int64         // bytes, the peak
	ran    time.Duration // from the first look to the last
}

// watchGate begins to look for pods of the service's gate that are younger than a moment.
func watchGate(ctx context.Context, s *service, from time.Time) *meter {
	ctx, cancel := context.WithCancel(ctx)
	m := &meter{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(m.done)
		var groups []string
		var begin time.Time
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(300 * time.Millisecond):
			}
			if len(groups) == 0 {
				pods, err := s.hookPods(ctx, "gate")
				for _, p := range pods {
					if err == nil && p.GetCreationTimestamp().Time.After(from.Add(-time.Second)) {
						groups = podGroups(string(p.GetUID()))
						begin = time.Now()
					}
				}
			}
			m.read(groups, begin)
		}
	}()
	return m
}

func (m *meter) stop() {
	m.cancel()
	<-m.done
}

func (m *meter) read(groups []string, begin time.Time) {
	cpu, memory := usage(groups)
	m.mu.Lock()
	defer m.mu.Unlock()
	if cpu > m.cpu {
		m.cpu, m.ran = cpu, time.Since(begin)
	}
	m.memory = max(m.memory, memory)
}

// cost is processor time a second, in thousandths of a core, and memory in MiB.
func (m *meter) cost() (millicores, mebibytes float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ran <= 0 {
		return 0, 0
	}
	return 1000 * m.cpu.Seconds() / m.ran.Seconds(), float64(m.memory) / (1 << 20)
}

// podGroups are the control groups of a pod, in all hierarchies that are mounted.
func podGroups(uid string) (dirs []string) {
	name := "pod" + uid
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		if d.Name() == name {
			dirs = append(dirs, path)
			return fs.SkipDir
		}
		return nil
	})
	return dirs
}

// usage reads the counters of version 1 and 2, whichever are there.
func usage(dirs []string) (cpu time.Duration, memory int64) {
	for _, dir := range dirs {
		if n, ok := readNumber(filepath.Join(dir, "cpuacct.usage")); ok {
			cpu = max(cpu, time.Duration(n))
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "cpu.stat")); err == nil {
			cpu = max(cpu, time.Duration(field(string(raw), "usage_usec"))*time.Microsecond)
		}
		for _, file := range []string{"memory.peak", "memory.max_usage_in_bytes"} {
			if n, ok := readNumber(filepath.Join(dir, file)); ok {
				memory = max(memory, n)
			}
		}
	}
	return cpu, memory
}

func readNumber(file string) (int64, bool) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(raw)), 10, 64)
	return n, err == nil
}

// field is the number after a name in a file of pairs.
func field(text, name string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n
		}
	}
	return 0
}
