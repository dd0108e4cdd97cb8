package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// TestWhateverItWasKilledAtTheNextStartGoesOn kills the real daemon at moments
// all over its start. Each leaves something else behind; the next start takes it
// over or removes it, and in the end nothing is left.
func TestWhateverItWasKilledAtTheNextStartGoesOn(t *testing.T) {
	testenv.NeedRoot(t)
	program, group, dir := build(t), testenv.TempCgroup(t), t.TempDir()
	fs, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	pin, socket := filepath.Join(fs, filepath.Base(group)), filepath.Join(dir, "probe.sock")
	t.Cleanup(func() { _ = os.RemoveAll(pin) })
	start := func() (*exec.Cmd, *bytes.Buffer) {
		cmd, log := exec.Command(program, "--cgroup", group, "--pin", pin, "--history", "dir:"+dir, "--listen", "unix:"+socket), &bytes.Buffer{}
		cmd.Stderr = log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, log
	}
	took := untilItServes(t, start, socket)
	kills := testenv.Chaos(t, testenv.Kill, 12)
	for i := range kills {
		cmd, _ := start()
		time.Sleep(took * time.Duration(i) / time.Duration(kills-1))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	untilItServes(t, start, socket)
	left, _ := filepath.Glob(filepath.Join(group, "*", "cgroup.procs"))
	for _, path := range []string{pin, socket} {
		if _, err := os.Lstat(path); err == nil {
			left = append(left, path)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// untilItServes starts a daemon, waits until it can be relied on, and ends it as
// it should be.
func untilItServes(t *testing.T, start func() (*exec.Cmd, *bytes.Buffer), socket string) time.Duration {
	t.Helper()
	client, err := wire.Dial("unix:"+socket, wire.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	begin := time.Now()
	cmd, log := start()
	for client.Healthy(t.Context()) != nil {
		if time.Since(begin) > patience {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("the daemon does not serve: %s", log)
		}
		time.Sleep(5 * time.Millisecond)
	}
	took := time.Since(begin)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, log)
	}
	return took
}
