package k8s

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// cost is what a rollout that is watched took.
type cost struct {
	Millicores float64
	PeakMiB    float64
	Pods       int
}

// watchForAWhile does what the gate asks of a target in every block of a second,
// and prints what that took of this process.
func watchForAWhile(ctx context.Context, t *Target, cfg *rest.Config) error {
	if err := t.Start(ctx, 100); err != nil {
		return err
	}
	t.Gone()
	began, used := time.Now(), cpu()
	var c cost
	for range 10 {
		stable, canary, err := t.Addresses(ctx)
		if err != nil {
			return err
		}
		if _, err := t.Nodes(ctx); err != nil {
			return err
		}
		if _, err := Probes(ctx, cfg, t.svc.Namespace, 9640); err != nil {
			return err
		}
		c.Pods = len(stable) + len(canary)
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
	c.Millicores = 1000 * (cpu() - used).Seconds() / time.Since(began).Seconds()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		return err
	}
	c.PeakMiB = kib / 1024
	raw, err := json.Marshal(c)
	fmt.Println(string(raw))
	return err
}

// raced reports whether this binary has the race detector, which takes memory.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// cpu is what this process has used so far.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestWatchingFiftyPodsIsCheap measures another process, which does nothing
// else, in a namespace with 50 stable pods.
func TestWatchingFiftyPodsIsCheap(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 seconds")
	}
	w := newWorld(t, Service{Route: true})
	w.patch("jane", w.asAdmin().deploymentPath("shop-stable"), `{"spec":{"replicas":50}}`)
	w.await("50 pods serve", func() bool { return w.endpoints("shop-stable") == 50 })
	out := w.rollout("watching")
	var c cost
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	t.Logf("%d pods, one block a second: %.1f m CPU, %.1f MiB at its peak", c.Pods, c.Millicores, c.PeakMiB)
	most := 50.0
	if raced() {
		most = 250
	}
	if c.Pods != 51 || c.Millicores > most || c.PeakMiB > 64 && !raced() {
		t.Errorf("%+v; at most %v m CPU and 64 MiB are allowed", c, most)
	}
}
