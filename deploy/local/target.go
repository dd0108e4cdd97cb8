// Package local runs the versions of a service as processes on this machine and
// splits new connections between them in the kernel.
//
// Each version lives in a control group of its own. Its listening socket is put
// into a slot of the traffic splitter (bpf/split), which answers for the front
// address: no proxy is in the path, and no process listens there. The splitter
// is pinned, so that traffic goes on when sluice ends or dies; the next Open
// finds what is there, verifies it and takes over, or cleans it up.
//
// The package knows nothing of verdicts or releases: it starts what it is told
// to start and moves traffic where it is told to.
package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/split"
	"github.com/sluice-cd/sluice/internal/cgroup"
)

// Config says where a service lives on this machine.
type Config struct {
	Name  string         // of the service
	Front netip.AddrPort // where clients connect
	Out   string         // absolute path of the folder with the ledger
	Drain time.Duration  // how long the losing side may keep its connections
}

// Target is a service on this machine: at most two versions and the splitter.
type Target struct {
	cfg   Config
	run   string // folder of lock and state
	pins  string // folder of the splitter's pins
	group cgroup.Group
	lock  *os.File
	split *split.Splitter
	state state
}

// Open takes the service over: what runs and is in order keeps running, a
// canary that an interrupted rollout left is ended, after its traffic has gone
// back to the stable version. Errors: *LockedError, *OwnedError, *PortError,
// *DigestError.
func Open(ctx context.Context, cfg Config) (_ *Target, err error) {
	root, err := cgroup.Root()
	if err != nil {
		return nil, err
	}
	t := &Target{cfg: cfg, run: filepath.Join(runDir, cfg.Name)}
	if t.lock, err = lock(t.run, cfg.Name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			t.forget()
			_ = t.Close()
		}
	}()
	if t.group, err = cgroup.Create(filepath.Join(root, "sluice", cfg.Name)); err != nil {
		return nil, err
	}
	if t.state, err = readState(t.run); err != nil {
		return nil, err
	}
	if err := t.takeOver(ctx); err != nil {
		return nil, err
	}
	return t, nil
}

// forget removes the empty folders of a service that never ran here.
func (t *Target) forget() {
	if _, err := os.Stat(filepath.Join(t.run, "state.json")); !errors.Is(err, os.ErrNotExist) {
		return
	}
	_ = os.Remove(string(t.group))
	_ = os.Remove(t.pins)
	_ = os.RemoveAll(t.run)
}

// takeOver makes the world agree with the state: first the stable version and
// its traffic, then the leftovers.
func (t *Target) takeOver(ctx context.Context) error {
	if err := t.adoptStable(); err != nil {
		return err
	}
	if err := t.openSplitter(); err != nil {
		return err
	}
	if s := t.state.Stable; s != nil {
		if err := t.split.SetWeight(weightOf(s.Slot, split.Full)); err != nil {
			return err
		}
		if err := t.split.ClearSocket(other(s.Slot)); err != nil {
			return err
		}
	}
	t.state.Out, t.state.Front = t.cfg.Out, t.cfg.Front.String()
	return t.removeLeftovers(ctx)
}

// adoptStable keeps the stable version of the state if its process still runs.
func (t *Target) adoptStable() error {
	s := t.state.Stable
	if s == nil {
		return nil
	}
	alive, err := s.alive()
	if err != nil {
		return err
	}
	if !alive {
		t.state.Stable = nil
		return nil
	}
	if t.state.Out != t.cfg.Out {
		return &OwnedError{Name: t.cfg.Name, Version: s.Version, Out: t.state.Out, Want: t.cfg.Out}
	}
	return s.watch()
}

// openSplitter takes over the pinned splitter or makes a new one, and puts the
// stable version's socket into it. The splitter of a front that the service had
// before goes after that.
func (t *Target) openSplitter() error {
	mount, err := bpf.MountedBPFFS()
	if err != nil {
		return err
	}
	t.pins = filepath.Join(mount, "sluice", t.cfg.Name)
	dir := filepath.Join(t.pins, pinName(t.cfg.Front))
	if _, err := os.Stat(dir); err != nil {
		if err := t.checkFront(); err != nil {
			return err
		}
	}
	t.split, err = split.Open(dir, t.cfg.Front)
	var stale *split.StaleError
	if errors.As(err, &stale) {
		// Not ours, or of another sluice version. New connections are refused
		// for the moment between the two.
		if err := split.RemovePins(dir); err != nil {
			return err
		}
		t.split, err = split.Open(dir, t.cfg.Front)
	}
	if err != nil {
		return err
	}
	if s := t.state.Stable; s != nil {
		if err := t.plug(s); err != nil {
			return err
		}
	}
	return removeOthers(t.pins, filepath.Base(dir))
}

// pinName is the folder of a front's splitter; bpffs refuses dots in names.
func pinName(front netip.AddrPort) string {
	return fmt.Sprintf("front_%x_%d", front.Addr().AsSlice(), front.Port())
}

// removeOthers removes the splitters of fronts that the service had before.
func removeOthers(base, keep string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return fmt.Errorf("listing pins: %w", err)
	}
	for _, e := range entries {
		if e.Name() != keep {
			if err := split.RemovePins(filepath.Join(base, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkFront refuses a front address on which somebody listens: the splitter
// would take their connections.
func (t *Target) checkFront() error {
	if other := servesAt(t.cfg.Front, t.cfg.Name); other != "" {
		return &PortError{Addr: t.cfg.Front.String(), Holder: "the service " + other + ", which sluice runs"}
	}
	l, err := net.Listen("tcp", t.cfg.Front.String())
	if err == nil {
		return l.Close()
	}
	pe := &PortError{Addr: t.cfg.Front.String(), Err: err}
	if errors.Is(err, unix.EADDRINUSE) {
		pe.Holder = holder(t.cfg.Front)
	}
	return pe
}

// plug puts the listening socket of a running version into its slot.
func (t *Target) plug(a *Arm) error {
	list, err := sockets(a.Cgroup)
	if err != nil {
		return err
	}
	defer closeAll(list)
	for _, s := range list {
		if s.listening && s.local.Port() == a.Own.Port() {
			// Putting a socket where it is already would take it out for a moment.
			if cookie, taken, err := t.split.Occupied(a.Slot); err == nil && taken && cookie == s.cookie {
				return nil
			}
			return t.split.SetSocket(a.Slot, s.fd)
		}
	}
	return fmt.Errorf("%s (process %d) does not listen on %v any more", a.Version, a.PID, a.Own)
}

// removeLeftovers ends every version but the stable one.
func (t *Target) removeLeftovers(ctx context.Context) error {
	if c := t.state.Canary; c != nil {
		if alive, _ := c.alive(); alive && c.watch() == nil {
			if _, err := c.drain(ctx, t.cfg.Front.Port(), t.cfg.Drain); err != nil {
				return err
			}
			if err := c.stop(ctx); err != nil {
				return err
			}
		}
		t.state.Canary = nil
	}
	entries, err := os.ReadDir(string(t.group))
	if err != nil {
		return fmt.Errorf("listing control groups: %w", err)
	}
	for _, e := range entries {
		dir := cgroup.Group(filepath.Join(string(t.group), e.Name()))
		if !e.IsDir() || (t.state.Stable != nil && t.state.Stable.Cgroup == dir) {
			continue
		}
		if err := dir.Remove(ctx); err != nil {
			return err
		}
	}
	return t.state.write(t.run)
}

// Stable returns the version that serves, nil if none does.
func (t *Target) Stable() *Arm { return t.state.Stable }

// Group is the control group that holds every version: what is attached to it
// sees the traffic of all of them.
func (t *Target) Group() string { return string(t.group) }

// Front is the address where clients connect.
func (t *Target) Front() netip.AddrPort { return t.cfg.Front }

// Close lets go of the service. Versions and traffic go on.
func (t *Target) Close() error {
	var err error
	if t.split != nil {
		err = t.split.Close()
	}
	return errors.Join(err, t.lock.Close())
}

// Down ends the service: its versions, splitter, control groups and state.
func (t *Target) Down(ctx context.Context) error {
	if s := t.state.Stable; s != nil {
		if err := t.split.ClearSocket(s.Slot); err != nil {
			return err
		}
		if _, err := s.drain(ctx, t.cfg.Front.Port(), t.cfg.Drain); err != nil {
			return err
		}
		if err := s.stop(ctx); err != nil {
			return err
		}
	}
	if err := t.split.Remove(); err != nil {
		return err
	}
	if err := os.Remove(t.pins); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the folder of the splitter: %w", err)
	}
	_ = os.Remove(filepath.Dir(t.pins))
	if err := t.group.Remove(ctx); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(string(t.group))) // the last service removes the parent
	if err := os.RemoveAll(t.run); err != nil {  // with the lock, see lock
		return fmt.Errorf("removing the state of the local target: %w", err)
	}
	_ = os.Remove(filepath.Dir(t.run))
	return nil
}

func other(s split.Slot) split.Slot { return 1 - s }

// weightOf turns the share of one slot into what the splitter wants: the share
// of slot 1.
func weightOf(s split.Slot, share uint32) uint32 {
	if s == 1 {
		return share
	}
	return split.Full - share
}
