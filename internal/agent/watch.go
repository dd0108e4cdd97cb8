package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// Reading is one look at the probe, ready to be told.
type Reading struct {
	Status  wire.Status
	At      time.Time
	Encoded []byte // Status as package wire encodes it
	json    func() ([]byte, error)
}

// JSON is the readable form of Status, made at first use.
func (r *Reading) JSON() ([]byte, error) { return r.json() }

// Read returns a reading that is no older than that. Whoever asks, the probe is
// checked at every look, so no reading tells counters of a probe that was not.
func (a *Agent) Read(maxAge time.Duration) (*Reading, error) {
	if r := a.latest.Load(); r != nil && time.Since(r.At) < maxAge {
		return r, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.latest.Load(); r != nil && time.Since(r.At) < maxAge {
		return r, nil // somebody else has just looked
	}
	r, err := a.look()
	if err != nil {
		why := err.Error()
		if old := a.broken.Swap(&why); old == nil || *old != why {
			a.log.Error("no snapshot", "err", err)
		}
		return nil, err
	}
	a.broken.Store(nil)
	a.latest.Store(r)
	return r, nil
}

// look checks the probe, reads it, and acts on what it finds. The caller holds
// the lock.
func (a *Agent) look() (*Reading, error) {
	if err := a.check(); err != nil {
		return nil, err
	}
	snap, err := a.probe.Snapshot()
	if err != nil {
		return nil, fmt.Errorf("reading the probe: %w", err)
	}
	found, err := a.probe.Exemplars()
	if err != nil {
		return nil, fmt.Errorf("reading exemplars: %w", err)
	}
	a.hideSelfTests(snap.Workloads)
	a.exemplars.add(snap.At, slices.DeleteFunc(found, func(e probe.Exemplar) bool { return isSelfTest(e.Workload) }))
	a.traffic.add(snap.At, segments(snap).plus(a.forgotten))
	a.forget(snap.At, snap.Workloads)
	a.judge(snap.At)
	return a.tell(snap)
}

// tell makes a reading of a snapshot.
func (a *Agent) tell(snap probe.Snapshot) (*Reading, error) {
	if err := a.cost.measure(snap.At, a.probe); err != nil {
		return nil, err
	}
	s := wire.Status{
		Snapshot: snap, Node: a.cfg.Node, Start: a.startedAt(), Loaded: a.probe.Loaded(), Mismatch: a.mismatch.text(snap.At),
		Mismatches: a.mismatch.count, Swaps: a.swaps, Cost: a.cost.kernel, Budget: wire.Budget{Share: a.cost.share, Limit: a.cfg.Budget}, Exemplars: slices.Clone(a.exemplars.recent),
	}
	if over := s.Budget.Exceeded(); over != a.overBudget {
		a.overBudget = over
		a.log.Warn("over budget", "is", over, "share", s.Budget.Share, "limit", s.Budget.Limit)
	}
	return newReading(s), nil
}

func newReading(s wire.Status) *Reading {
	r := &Reading{Status: s, At: s.At, Encoded: wire.Encode(nil, &s)}
	r.json = sync.OnceValues(func() ([]byte, error) { return json.Marshal(r.Status) })
	return r
}

func (a *Agent) startedAt() wire.Start {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id") // without it, the time tells runs apart
	return wire.Start{Boot: strings.TrimSpace(string(id)), Loaded: a.probe.Since()}
}

// check asks the kernel whether the probe is what was loaded, and puts right
// what is not. Only what could not be asked is an error.
func (a *Agent) check() error {
	err := a.probe.Check()
	var m *bpf.MismatchError
	switch {
	case err == nil:
		a.mismatch.over(time.Now())
		return nil
	case !errors.As(err, &m):
		return fmt.Errorf("checking the probe: %w", err)
	}
	now := time.Now()
	if a.mismatch.found(m, now) {
		a.log.Error("hash mismatch", "program", m.Program, "map", m.Map, "what", m.What, "expected", m.Want, "found", m.Got, "count", a.mismatch.count)
		a.tellMismatch(now)
	}
	if !a.mismatch.due(now) {
		return nil
	}
	if err := a.repair(m); err != nil {
		a.log.Error("not repaired", "err", err)
		return nil
	}
	a.mismatch.over(time.Now())
	a.log.Warn("repaired", "object", a.current.Digest(), "took", time.Since(now).Round(time.Microsecond))
	return nil
}

// tellMismatch tells the last snapshot again, with the mismatch: nobody waits for
// the repair to learn of it.
func (a *Agent) tellMismatch(now time.Time) {
	last := a.latest.Load()
	if last == nil {
		return
	}
	s := last.Status
	s.Mismatch, s.Mismatches = a.mismatch.text(now), a.mismatch.count
	a.latest.Store(newReading(s))
}

// repair puts the last good object in the place of whatever is there, which ends
// the trial of another one. Where only a pin is missing, what runs is put in its
// own place, and pinned by that. What is wrong with a map, or runs beside the
// probe, it cannot mend: that stays a mismatch, for a person to look at, while
// counting goes on.
func (a *Agent) repair(m *bpf.MismatchError) error {
	was, to := a.current, a.good
	if m.Pin {
		to = was
	}
	if _, err := a.put(to); err != nil {
		return err
	}
	if was.Digest() != to.Digest() {
		a.log.Warn("rolled back", "object", to.Digest(), "previous", was.Digest(), "reason", "hash mismatch")
		a.condemn(was, "hash mismatch while it was on trial: "+m.Error())
		a.note(markLoaded(to))
	}
	return a.probe.Check()
}

// repairEvery is how long what did not help is not tried again: a program beside
// ours, for example, is not ours to remove.
const repairEvery = 10 * time.Second

// shown is how long a mismatch that was repaired is still told: every reader
// that comes once a second, or once in ten, sees it.
const shown = 15 * time.Second

// Mismatch is one time that the kernel held something else than what was
// verified.
type Mismatch struct {
	bpf.MismatchError
	At, Over time.Time // Over is zero while it lasts
}

// mismatches remembers them.
type mismatches struct {
	count     uint64
	last      Mismatch
	attempted time.Time
}

// found notes a mismatch and reports whether it is a new one. What is expected and
// found in the same place may be another with every repair that did not help.
func (m *mismatches) found(e *bpf.MismatchError, now time.Time) bool {
	if was := m.last; m.lasts() && was.Program == e.Program && was.Map == e.Map && was.What == e.What {
		return false
	}
	m.count++
	m.last, m.attempted = Mismatch{MismatchError: *e, At: now}, time.Time{}
	return true
}

func (m *mismatches) lasts() bool { return m.count > 0 && m.last.Over.IsZero() }

// due reports whether to try a repair now.
func (m *mismatches) due(now time.Time) bool {
	if now.Sub(m.attempted) < repairEvery {
		return false
	}
	m.attempted = now
	return true
}

func (m *mismatches) over(now time.Time) {
	if m.lasts() {
		m.last.Over = now
	}
}

// text says what is or was wrong; empty if nothing was for a while. The number
// in it only grows, so that two mismatches of the same kind differ.
func (m *mismatches) text(now time.Time) string {
	if m.count == 0 || !m.lasts() && now.Sub(m.last.Over) > shown {
		return ""
	}
	text := fmt.Sprintf("%v (mismatch %d, at %s", &m.last.MismatchError, m.count, m.last.At.UTC().Format(time.RFC3339Nano))
	if !m.lasts() {
		text += fmt.Sprintf(", repaired after %v", m.last.Over.Sub(m.last.At).Round(time.Microsecond))
	}
	return text + ")"
}

// exemplars keeps those of the last seconds, so that every reader sees them.
type exemplars struct{ recent []probe.Exemplar }

const (
	exemplarsFor = 10 * time.Second
	maxExemplars = 256
)

func (e *exemplars) add(now time.Time, found []probe.Exemplar) {
	all := append(e.recent, found...)
	all = slices.DeleteFunc(all, func(x probe.Exemplar) bool { return now.Sub(x.At) > exemplarsFor })
	e.recent = slices.Clone(all[max(0, len(all)-maxExemplars):])
}
