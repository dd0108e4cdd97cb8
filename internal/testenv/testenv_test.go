package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// recorder is a testing.TB that only notes how a test would have ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()               {}
func (r *recorder) Skip(...any)           { r.skipped = true }
func (r *recorder) Fatalf(string, ...any) { r.failed = true }
func (r *recorder) Logf(string, ...any)   {}

func TestWhatIsMissingSkipsOrFails(t *testing.T) {
	for name, tt := range map[string]struct {
		ci, tool string
		want     recorder
	}{
		"a tool that exists goes on":           {"true", "go", recorder{}},
		"a missing tool skips on a laptop":     {"", "no-such-tool", recorder{skipped: true}},
		"a missing tool fails in CI":           {"true", "no-such-tool", recorder{failed: true}},
		"any other value of CI is no CI":       {"1", "no-such-tool", recorder{skipped: true}},
		"a tool that exists goes on elsewhere": {"", "go", recorder{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("CI", tt.ci)
			got := recorder{}
			Need(&got, tt.tool)
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestFaultsAreInjectedAsOftenAsAskedFor(t *testing.T) {
	for name, tt := range map[string]struct {
		times string
		want  int
		fails bool
	}{
		"in an ordinary run":          {"", 4, false},
		"where faults are looked for": {"10", 40, false},
		"once":                        {"1", 4, false},
		"never is no number":          {"0", 0, true},
		"neither is a word":           {"often", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() {
				t.Skip("then it is a few times")
			}
			t.Setenv("SLUICE_CHAOS", tt.times)
			r := recorder{}
			if got := Chaos(&r, Kill, 4); r.failed != tt.fails || !tt.fails && got != tt.want {
				t.Errorf("%d rounds, failed %t; want %d", got, r.failed, tt.want)
			}
		})
	}
}

func TestCgroup2Mount(t *testing.T) {
	for name, tt := range map[string]struct{ mounts, want string }{
		"unified":            {"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", "/sys/fs/cgroup"},
		"hybrid":             {"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\nnone /sys/fs/cgroup/unified cgroup2 rw 0 0\n", "/sys/fs/cgroup/unified"},
		"blank in the path":  {`none /a\040b cgroup2 rw 0 0`, "/a b"},
		"only version 1":     {"cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\n", ""},
		"an incomplete line": {"none\n\n", ""},
	} {
		if got := cgroup2Mount(tt.mounts); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestTempCgroupIsGoneWithItsProcessesAfterwards(t *testing.T) {
	var dir string
	var sleeper *exec.Cmd
	t.Run("inner", func(t *testing.T) {
		Need(t, "sleep")
		dir = TempCgroup(t)
		child := filepath.Join(dir, "child")
		if err := os.Mkdir(child, 0o755); err != nil {
			t.Fatal(err)
		}
		sleeper = exec.Command("sleep", "60")
		if err := sleeper.Start(); err != nil {
			t.Fatal(err)
		}
		go func() { _ = sleeper.Wait() }()
		pid := strconv.Itoa(sleeper.Process.Pid)
		if err := os.WriteFile(filepath.Join(child, "cgroup.procs"), []byte(pid), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	if dir == "" {
		t.Skip("no cgroup could be made")
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", dir, err)
	}
	if err := removeCgroup(dir, time.Second); err != nil {
		t.Errorf("removing it twice: %v", err)
	}
}
