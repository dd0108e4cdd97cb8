package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAProcessThatEndsTellsWhy(t *testing.T) {
	dir := t.TempDir()
	p, err := start(program{name: "liar", path: "/bin/sh", args: []string{"-c", "echo fine; echo 'E1121 boom'; echo fine; exit 3"}, logs: dir})
	if err != nil {
		t.Fatal(err)
	}
	err = p.ready(t.Context(), func(context.Context) error { return errors.New("not yet") })
	ended := (*EndedError)(nil)
	if !errors.As(err, &ended) {
		t.Fatalf("it ended, but: %v", err)
	}
	if want := "liar ended: exit status 3\n    E1121 boom"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if portTaken(err) {
		t.Error("it was no port")
	}
}

func TestAProcessThatIsNeverReadyIsWaitedForNoLongerThanSaid(t *testing.T) {
	p, err := start(program{name: "mute", path: "/bin/sleep", args: []string{"60"}, logs: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop(0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	mute := errors.New("no answer")
	if err := p.ready(ctx, func(context.Context) error { return mute }); !errors.Is(err, mute) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStopEndsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	p, err := start(program{name: "parent", path: "/bin/sh", args: []string{"-c", "trap '' TERM; sleep 61 & echo $!; wait; sleep 61"}, logs: dir})
	if err != nil {
		t.Fatal(err)
	}
	var child string
	err = until(t.Context(), 5*time.Second, func() error {
		raw, _ := os.ReadFile(p.logFile())
		if child = strings.TrimSpace(string(raw)); child == "" {
			return errors.New("no child yet")
		}
		return nil
	}, func(error) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	p.stop(100 * time.Millisecond)
	if err := until(t.Context(), 5*time.Second, func() error { return gone(child) }, func(error) bool { return true }); err != nil {
		t.Error(err)
	}
}

// gone is nil if the process ended.
func gone(pid string) error {
	stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		return fmt.Errorf("process %s is still there", pid)
	}
	return nil
}

func TestTellingLines(t *testing.T) {
	for name, tt := range map[string]struct {
		log  string
		want []string
	}{
		"errors, if there are any":      {"I1 a\nE1121 09:00 b\nI1 c\nF1121 09:00 d\nI1 e\n", []string{"E1121 09:00 b", "F1121 09:00 d"}},
		"of structured logs":            {`{"level":"info"}` + "\n" + `{"level":"fatal","msg":"x"}` + "\n", []string{`{"level":"fatal","msg":"x"}`}},
		"the last ones, if there is no": {"1\n2\n3\n4\n5\n6\n7\n8\n9\n", []string{"2", "3", "4", "5", "6", "7", "8", "9"}},
		"nothing of nothing":            {"", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, []byte(tt.log), 0o600); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, telling(file)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAPlaneEndsWithItsProgramHoweverThatEnds(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SLUICE_TEST_PLANE="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	pids := strings.Fields(line)
	if err != nil || len(pids) != 3 || pids[2] != "<nil>" {
		t.Fatalf("%q, %v", line, err)
	}
	for _, pid := range pids[:2] {
		if err := until(t.Context(), 5*time.Second, func() error { return gone(pid) }, func(error) bool { return true }); err != nil {
			t.Error(err)
		}
	}
}

func TestOneBuildsAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key", "program")
	var wg sync.WaitGroup
	var inside atomic.Int32 // the detector of races knows nothing of file locks
	for range 8 {
		wg.Go(func() {
			unlock, err := lock(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d at once", n)
			}
			time.Sleep(2 * time.Millisecond)
			inside.Add(-1)
			_ = os.Remove(path + ".lock") // as who has the lock may
		})
	}
	wg.Wait()
}

func TestTheKeyOfAProgramTellsWhatDecidesIt(t *testing.T) {
	module := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(module, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x\n\ngo 1.25.0\n\nrequire example.com/x v1.2.3\n")
	write("go.sum", "")
	a := tool{module: "x", source: "example.com/x", flags: "-X v=VERSION -X m=MAJOR.MINOR"}
	flags, key, err := a.recipe(t.Context(), module)
	if err != nil || flags != "-X v=1.2.3 -X m=1.2" {
		t.Fatalf("%q, %v", flags, err)
	}
	write("go.sum", "changed")
	if _, other, err := a.recipe(t.Context(), module); err != nil || other == key {
		t.Errorf("another go.sum has the same key, %v", err)
	}
	a.source = "example.com/y"
	if _, _, err := a.recipe(t.Context(), module); err == nil {
		t.Error("a version was found that nobody requires")
	}
	if _, err := Binary(t.Context(), "kubectx", nil); err == nil {
		t.Error("a program that does not exist was built")
	}
}
