package probe

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// daemonEnv makes the test binary a process that pins a probe: how it behaves,
// the folder and the control group.
const daemonEnv = "SLUICE_TEST_DAEMON"

// TestDaemon is no test but the process that others kill.
func TestDaemon(t *testing.T) {
	how, rest, ok := strings.Cut(os.Getenv(daemonEnv), " ")
	if !ok {
		t.Skip("only run by other tests")
	}
	folder, group, _ := strings.Cut(rest, " ")
	for i := 0; ; i++ {
		opts := Options{Pin: folder}
		if how == "restarts" { // with another layout every second time
			opts.Workloads = 5 + i%2
		}
		p, err := Load(Object(), bpf.DigestOf(Object()), opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Attach(group); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			fmt.Println("attached")
		}
		for how == "swaps" {
			if err := p.Swap(Object(), p.Digest()); err != nil {
				t.Fatal(err)
			}
		}
		if how == "waits" {
			time.Sleep(time.Hour)
		}
		end := p.Release
		if i%3 == 2 {
			end = p.Close
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
}

// daemon starts one and returns when it has attached its probe. The function
// kills it.
func daemon(t *testing.T, how, folder, group string) (kill func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestDaemon$")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", daemonEnv, how, folder, group))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "attached" {
		t.Fatalf("the daemon says %q", lines.Text())
	}
	return kill
}

func TestAfterKillTheNextStartTakesOverOrCleansUp(t *testing.T) {
	s := start(t)
	folder := pinFolder(t)
	inherited, discarded := 0, 0
	rounds := testenv.Chaos(t, testenv.Kill, 15)
	for range rounds {
		kill := daemon(t, "restarts", folder, s.parent)
		time.Sleep(rand.N(60 * time.Millisecond))
		kill()
		p, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: folder, Workloads: 5})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Attach(s.parent); err != nil {
			t.Fatal(err)
		}
		ok, err := p.Inherited()
		if ok {
			inherited++
		}
		if err != nil {
			discarded++
		}
		before, _ := total(t, p)
		ask(t, s, 2)
		counts(t, p, before.Requests+2)
		if err := p.Check(); err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("something was left: %v", err)
		}
	}
	t.Logf("of %d, %d were taken over, %d were cleaned up", rounds, inherited, discarded)
}

func TestKilledWhileSwappingLosesNoRequest(t *testing.T) {
	s := start(t)
	folder := pinFolder(t)
	kill := daemon(t, "swaps", folder, s.parent)
	l := offer(t, s.v4, 1000)
	kills := testenv.Chaos(t, testenv.Kill, 5)
	for i := range kills {
		time.Sleep(50*time.Millisecond + rand.N(50*time.Millisecond))
		kill()
		time.Sleep(20 * time.Millisecond)
		if i < kills-1 {
			kill = daemon(t, "swaps", folder, s.parent)
		}
	}
	p := s.watch(t, Options{Pin: folder})
	if ok, err := p.Inherited(); !ok || err != nil {
		t.Fatalf("inherited %t, %v", ok, err)
	}
	sent := l.end()
	counts(t, p, sent)
	t.Logf("%d requests, %d daemons killed", sent, kills)
}

func TestASecondProcessIsRefused(t *testing.T) {
	s := start(t)
	folder := pinFolder(t)
	kill := daemon(t, "waits", folder, s.parent)
	var busy *bpf.BusyError
	if _, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: folder}); !errors.As(err, &busy) || busy.Hint() == "" || busy.Dir != folder {
		t.Errorf("%v, want a BusyError", err)
	}
	kill()
	p := s.watch(t, Options{Pin: folder})
	if ok, err := p.Inherited(); !ok || err != nil {
		t.Errorf("inherited %t, %v", ok, err)
	}
	if _, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: folder}); !errors.As(err, &busy) {
		t.Errorf("from the same process: %v, want a BusyError", err)
	}
	if err := p.Check(); err != nil {
		t.Errorf("after the refusal: %v", err)
	}
}
