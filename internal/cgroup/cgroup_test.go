package cgroup_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/cgroup"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// sleeper starts a process in the group, which ends with the test at the latest
// and is reaped when it ends.
func sleeper(t *testing.T, g cgroup.Group) {
	t.Helper()
	dir, err := os.Open(string(g))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() { _ = cmd.Wait(); close(reaped) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-reaped })
}

func create(t *testing.T, path ...string) cgroup.Group {
	t.Helper()
	g, err := cgroup.Create(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTheRootIsWhereTheKernelSays(t *testing.T) {
	want := testenv.CgroupRoot(t)
	if got, err := cgroup.Root(); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestNothingIsLeftOfAGroup(t *testing.T) {
	root := testenv.TempCgroup(t)
	g := create(t, root, "v1")
	inner := create(t, root, "v1", "worker", "child")
	if again := create(t, root, "v1"); again != g {
		t.Errorf("made again it is %q, want %q", again, g)
	}
	sleeper(t, g)
	sleeper(t, inner)
	if pids, err := g.Processes(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v, want two", pids, err)
	}
	if one, err := g.ID(); err != nil || one == 0 {
		t.Errorf("its number is %d, %v", one, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.Remove(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(g)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
	if pids, err := g.Processes(); err != nil || len(pids) != 0 {
		t.Errorf("of a group that is gone: %v, %v", pids, err)
	}
	if err := g.Remove(ctx); err != nil {
		t.Errorf("removing it twice: %v", err)
	}
	if _, err := g.ID(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the number of what is gone: %v", err)
	}
}

func TestEndingAGroupGivesUpWithItsContext(t *testing.T) {
	g := create(t, testenv.TempCgroup(t), "v1")
	sleeper(t, g)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// It has killed the process, which may have gone at once or not yet.
	if err := g.Kill(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that of the context", err)
	}
}

func TestAGroupThatCannotBeMadeIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cgroup.Create(filepath.Join(file, "v1")); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v, want ENOTDIR", err)
	}
}
