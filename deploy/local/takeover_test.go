package local

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestAKilledSluiceCostsNoRequest(t *testing.T) {
	for point, want := range map[string]string{
		"the canary is ready":         "v1",
		"half the traffic is shifted": "v1",
		"all traffic is shifted":      "v1",
		"the promotion is recorded":   "v2",
	} {
		for range testenv.Chaos(t, testenv.Kill, 1) {
			t.Run(point, func(t *testing.T) { killedAt(t, point, want) })
		}
	}
}

// killedAt kills a rollout of v2, under load, and sees what serves afterwards.
func killedAt(t *testing.T, point, want string) {
	b := newLab(t, "127.0.0.1")
	if err := b.stable("v1").Close(); err != nil {
		t.Fatal(err)
	}
	stop := b.load()
	b.killAt(point, b.service("v2", nil))
	b.ask(20)
	target := b.open()
	b.only(want)
	stop()
	if s := target.Stable(); s == nil || s.Version != want || target.state.Canary != nil {
		t.Errorf("stable %+v, canary %+v", s, target.state.Canary)
	}
	if groups, _ := filepath.Glob(filepath.Join(target.Group(), "*", "cgroup.procs")); len(groups) != 1 {
		t.Errorf("groups %v, want one", groups)
	}
}

func TestAStableVersionThatDiedWhileSluiceWasAway(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	arm := target.Stable()
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	if st, err := Look(b.cfg.Name); err != nil || st.Version != "v1" {
		t.Errorf("Look: %+v, %v", st, err)
	}
	if err := syscall.Kill(arm.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-arm.Gone()
	if st, err := Look(b.cfg.Name); err != nil || st.Version != "" {
		t.Errorf("Look: %+v, %v", st, err)
	}
	target = b.open()
	if s := target.Stable(); s != nil {
		t.Errorf("stable is %+v, want none", s)
	}
	b.start(target, "v2", nil)
	b.promote(target)
	b.only("v2")
}

func TestAForeignSplitterIsReplaced(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	mount, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	// The weight of another splitter is not what the program reads.
	pins := filepath.Join(mount, "sluice", b.cfg.Name, pinName(b.cfg.Front))
	if err := errors.Join(os.Remove(filepath.Join(pins, "weight")), os.Rename(filepath.Join(pins, "counts"), filepath.Join(pins, "weight"))); err != nil {
		t.Fatal(err)
	}
	b.open()
	b.only("v1")
}

func TestOpenRefuses(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	l, err := net.Listen("tcp", b.cfg.Front.String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), b.cfg)
	var port *PortError
	if !errors.As(err, &port) || !strings.Contains(port.Holder, fmt.Sprint(os.Getpid())) {
		t.Errorf("a front that somebody has: %v", err)
	}
	if left := b.traces(); len(left) > 0 {
		t.Errorf("a refused front leaves %v", left)
	}
	_ = l.Close()

	target := b.stable("v1")
	var locked *LockedError
	if _, err := Open(t.Context(), b.cfg); !errors.As(err, &locked) || locked.PID != fmt.Sprint(os.Getpid()) {
		t.Errorf("a service that another sluice holds: %v", err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	other := b.cfg
	other.Out = t.TempDir()
	var owned *OwnedError
	if _, err := Open(t.Context(), other); !errors.As(err, &owned) || owned.Out != b.cfg.Out {
		t.Errorf("a service of another ledger: %v", err)
	}
	b.only("v1")
}

func TestAProcessThatIsNotTheReleaseIsRefused(t *testing.T) {
	b := newLab(t, "127.0.0.1")
	target := b.stable("v1")
	good := target.Stable().SHA256
	target.Stable().SHA256 = strings.Repeat("0", 64)
	if err := errors.Join(target.state.write(target.run), target.Close()); err != nil {
		t.Fatal(err)
	}
	var mismatch *DigestError
	if _, err := Open(t.Context(), b.cfg); !errors.As(err, &mismatch) {
		t.Errorf("got %v, want a DigestError", err)
	}
	b.only("v1") // traffic is not touched
	target.Stable().SHA256 = good
	if err := target.state.write(target.run); err != nil {
		t.Fatal(err)
	}
}
