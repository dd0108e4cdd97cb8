package hook

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A gate that watches fifty pods may take 50 m of a core and 64 MiB. What it
// takes to start, once, comes on top of the CPU.
func TestTheGateOfFiftyPodsIsCheap(t *testing.T) {
	const start = 300 * time.Millisecond
	w := newYard(t, "")
	w.set(func() { w.rate = 0 }) // no verdict before the deadline
	w.patch(object{deployments, w.s.namespace(), "shop-stable"}, map[string]any{"spec": map[string]any{"replicas": 45}})
	w.await("45 stable pods serve", func() bool { return w.pods("stable") == 45 })
	p := w.spawn("sync", "shop-gate-0")
	begin := time.Now()
	if !p.until("the canary is ready") {
		t.Fatal(p.log.String())
	}
	time.Sleep(8 * time.Second)
	own := residentOwn(t, p.Process.Pid)
	if code := p.end(t); code != 4 {
		t.Fatalf("exit status %d, want that of no-data", code)
	}
	took := time.Since(begin)
	cpu := p.ProcessState.UserTime() + p.ProcessState.SystemTime()
	resident := p.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10
	t.Logf("%v of CPU in %v, %d MiB of its own, %d MiB with the pages of the program", cpu.Round(time.Millisecond), took.Round(time.Millisecond), own, resident)
	if share := float64(cpu-start) / float64(took); share > 0.05 && !raceEnabled {
		t.Errorf("it takes %.3f of a core, want at most 0.05", share)
	}
	if own > 64 && !raceEnabled {
		t.Errorf("it takes %d MiB, want at most 64", own)
	}
}

// residentOwn is the memory of a process in MiB without pages of files, which
// the kernel takes back when it needs them.
func residentOwn(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	var kib int
	for line := range strings.Lines(string(raw)) {
		_, _ = fmt.Sscanf(line, "RssAnon: %d kB", &kib)
	}
	return kib >> 10
}
