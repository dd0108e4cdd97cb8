package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf/split"
	"github.com/sluice-cd/sluice/internal/cgroup"
)

// StartCanary starts a version beside the stable one and waits until it is
// ready. It gets no traffic yet, unless there is no stable version: then it is
// the only one, and Promote makes it the stable one. Nothing of it is left
// after an error, which is a *StartError if the version is to blame.
func (t *Target) StartCanary(ctx context.Context, s Service) (_ *Arm, err error) {
	if t.state.Canary != nil {
		return nil, errors.New("starting a canary: there is one already")
	}
	slot := split.Slot(0)
	if t.state.Stable != nil {
		slot = other(t.state.Stable.Slot)
	}
	group, err := cgroup.Create(filepath.Join(string(t.group), groupName(s.Version, slot)))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			endCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			err = errors.Join(err, group.Remove(endCtx))
		}
	}()
	arm, mover, err := launch(s, group)
	if err != nil {
		return nil, err
	}
	defer mover.Close()
	arm.Slot = slot
	sock, err := arm.ready(ctx, mover)
	if err != nil {
		return nil, err
	}
	defer sock.close()
	arm.Own = sock.local
	if err := t.setShare(arm, 0); err != nil {
		return nil, err
	}
	if err := t.split.SetSocket(slot, sock.fd); err != nil {
		return nil, err
	}
	t.state.Canary = arm
	if err := t.state.write(t.run); err != nil {
		t.state.Canary = nil
		return nil, errors.Join(err, t.split.ClearSocket(slot))
	}
	return arm, nil
}

// groupName is unique among the two versions that can exist at a time, even if
// they are the same.
func groupName(version string, slot split.Slot) string {
	clean := strings.Map(func(r rune) rune {
		if r == '/' || r == '\n' {
			return '_'
		}
		return r
	}, version)
	return fmt.Sprintf("%s.%d", clean, slot)
}

// setShare gives the arm a share of the new connections, in ten-thousandths.
// Without a stable version the share is everything.
func (t *Target) setShare(a *Arm, share int) error {
	if t.state.Stable == nil {
		share = split.Full
	}
	return t.split.SetWeight(weightOf(a.Slot, uint32(share)))
}

// Shift gives the canary a share of the new connections, in ten-thousandths.
func (t *Target) Shift(weight int) error {
	return t.setShare(t.state.Canary, weight)
}

// Isolate keeps every new connection away from the canary. A stable version that
// has died meanwhile is started again first: somebody has to answer.
func (t *Target) Isolate() error {
	if err := t.reviveStable(context.Background()); err != nil {
		return err
	}
	c := t.state.Canary
	return errors.Join(t.setShare(c, 0), t.split.ClearSocket(c.Slot))
}

// Gone is closed when the canary's process has ended.
func (t *Target) Gone() <-chan struct{} { return t.state.Canary.gone }

// Promote makes the canary the stable version: it gets all new connections, the
// version before is drained and ended. It returns how many connections were
// still open when the drain time was up.
func (t *Target) Promote(ctx context.Context) (cut int, err error) {
	c, old := t.state.Canary, t.state.Stable
	if err := t.setShare(c, split.Full); err != nil {
		return 0, err
	}
	// From here on a killed sluice leaves the new version in charge.
	t.state.Stable, t.state.Canary = c, old
	if err := t.state.write(t.run); err != nil {
		t.state.Stable, t.state.Canary = old, c
		return 0, errors.Join(err, t.Shift(0))
	}
	if old == nil {
		return 0, nil
	}
	if err := t.split.ClearSocket(old.Slot); err != nil {
		return 0, err
	}
	return t.retire(ctx)
}

// RollBack ends the canary: its new connections go to the stable version, its
// old ones are drained. It returns how many connections were still open when
// the drain time was up.
func (t *Target) RollBack(ctx context.Context) (cut int, err error) {
	if t.state.Canary == nil {
		return 0, nil
	}
	if err := t.Isolate(); err != nil {
		return 0, err
	}
	return t.retire(ctx)
}

// retire drains and ends the version that the state calls canary.
func (t *Target) retire(ctx context.Context) (cut int, err error) {
	a := t.state.Canary
	// A version whose connections cannot be counted is ended all the same.
	cut, drainErr := a.drain(ctx, t.cfg.Front.Port(), t.cfg.Drain)
	if err := a.stop(ctx); err != nil {
		return cut, errors.Join(drainErr, err)
	}
	t.state.Canary = nil
	return cut, errors.Join(drainErr, t.state.write(t.run))
}

// Status is what serves on this machine; its Version is empty if nothing does.
type Status struct {
	Version string `json:"version"`
	Front   string `json:"front,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Out     string `json:"out,omitempty"` // folder with the ledger
}

// Look says which version serves, without taking the service over.
func Look(name string) (Status, error) {
	s, err := readState(filepath.Join(runDir, name))
	if err != nil || s.Stable == nil {
		return Status{}, err
	}
	if began, err := startTime(s.Stable.PID); err != nil || began != s.Stable.Began {
		return Status{}, nil
	}
	return Status{Version: s.Stable.Version, Front: s.Front, PID: s.Stable.PID, Out: s.Out}, nil
}

// Exists reports whether anything of the service is left on this machine.
func Exists(name string) bool {
	_, err := os.Stat(filepath.Join(runDir, name, "state.json"))
	return err == nil
}
