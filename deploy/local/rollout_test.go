package local

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNoRequestFailsWhateverARolloutDoes(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	b.only("v1")
	stop := b.load()
	b.start(target, "v2", nil)
	b.only("v1")
	if err := target.Shift(3000); err != nil {
		t.Fatal(err)
	}
	if got := b.ask(500); got["v2"] < 100 || got["v2"] > 200 || got["v1"]+got["v2"] != 500 {
		t.Errorf("500 new connections at 30 %%: %v", got)
	}
	if err := target.Shift(10000); err != nil {
		t.Fatal(err)
	}
	b.only("v2")
	if cut, err := target.RollBack(t.Context()); err != nil {
		t.Errorf("RollBack: %d, %v", cut, err)
	}
	b.only("v1")
	b.start(target, "v3", nil)
	b.promote(target)
	b.only("v3")
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	target = b.open()
	if s := target.Stable(); s == nil || s.Version != "v3" {
		t.Errorf("after taking over, stable is %+v", s)
	}
	if got := stop(); got["v1"] == 0 || got["v2"] == 0 || got["v3"] == 0 {
		t.Errorf("answers: %v", got)
	}
}

func TestFrontsOfEveryKindAnswer(t *testing.T) {
	for name, host := range map[string]string{"IPv6": "::1", "every address": "::", "every IPv4 address": "0.0.0.0"} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, host)
			b.stable("v1")
			b.only("v1")
		})
	}
}

func TestACanaryThatDiesCostsNoNewConnection(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	c := b.start(target, "v2", nil)
	if err := target.Shift(5000); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(c.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-target.Gone():
	case <-time.After(patience):
		t.Fatal("nobody said that it is gone")
	}
	b.only("v1")
	if _, err := target.RollBack(t.Context()); err != nil {
		t.Error(err)
	}
	b.only("v1")
}

func TestAStableVersionThatDiedIsReplaced(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	b.start(target, "v2", nil)
	old := target.Stable()
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-old.Gone()
	b.only("v2")
	b.promote(target)
	b.only("v2")
}

// Both versions are bad: one died, the other is taken back. The one that was stable
// is started again before it gets everything.
func TestAStableVersionThatDiedIsStartedAgainBeforeTheCanaryIsTakenBack(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	b.start(target, "v2", nil)
	old := target.Stable()
	if err := syscall.Kill(old.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-old.Gone()
	if _, err := target.RollBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.only("v1")
	if now := target.Stable(); now == nil || now.Version != "v1" || now.PID == old.PID {
		t.Errorf("the stable version is %+v, want v1 in a new process", now)
	}
}

func TestAVersionThatDoesNotComeUpLeavesNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		env   map[string]string
		words string
	}{
		"it exits at once":        {map[string]string{"EXIT": "no database"}, "no database"},
		"it never listens":        {map[string]string{"SILENT": "1"}, "does not listen"},
		"it never gets healthy":   {map[string]string{"HEALTH": "503"}, "answers 503"},
		"it listens on two ports": {map[string]string{"SECOND": ":18081"}, "name one as service.port"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLab(t, "127.0.0.1")
			target := b.stable("v1")
			s := b.service("v2", tt.env)
			// On a busy machine it takes a while to get as far as it will.
			for s.Start = 3 * time.Second; ; s.Start *= 4 {
				_, err := target.StartCanary(t.Context(), s)
				var start *StartError
				if !errors.As(err, &start) {
					t.Fatalf("got %v, want a StartError", err)
				}
				if strings.Contains(err.Error(), tt.words) {
					break
				}
				if s.Start > patience {
					t.Fatalf("got %v, want a StartError with %q", err, tt.words)
				}
			}
			groups, _ := filepath.Glob(filepath.Join(target.Group(), "*", "cgroup.procs"))
			if _, taken, _ := target.split.Occupied(1 - target.Stable().Slot); len(groups) != 1 || taken {
				t.Errorf("left behind: %v, slot occupied: %v", groups, taken)
			}
			b.only("v1")
		})
	}
}

func TestLastWordsAreOfThisRun(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.open()
	if err := os.WriteFile(filepath.Join(b.cfg.Out, "v1.log"), []byte("words of yesterday\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := b.service("v1", map[string]string{"SILENT": "1"})
	s.Start = time.Second
	if _, err := target.StartCanary(t.Context(), s); err == nil || strings.Contains(err.Error(), "yesterday") {
		t.Errorf("got %v", err)
	}
}

func TestLongConnectionsAreCutAfterTheDrainTime(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	b.cfg.Drain = 500 * time.Millisecond
	target := b.stable("v1")
	conn, err := net.Dial("tcp", b.cfg.Front.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b.start(target, "v2", nil)
	if cut := b.promote(target); cut != 1 {
		t.Errorf("%d connections were cut, want 1", cut)
	}
	b.only("v2")
}

func TestAStubbornVersionAndItsChildrenAreEnded(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	s := b.service("v2", map[string]string{"STUBBORN": "1", "FORK": "1"})
	s.Stop = 300 * time.Millisecond
	arm, err := target.StartCanary(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if pids, err := arm.Cgroup.Processes(); err != nil || len(pids) != 2 {
		t.Errorf("processes %v, %v; want 2", pids, err)
	}
	if _, err := target.RollBack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(string(arm.Cgroup)); !os.IsNotExist(err) {
		t.Errorf("its control group is still there: %v", err)
	}
}
