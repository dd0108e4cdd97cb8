package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

// ErrNoKey means that nobody was named whose signature counts.
var ErrNoKey = errors.New("no object is taken: the daemon was started without --key")

// ErrNothingBefore means that there is no object to go back to.
var ErrNothingBefore = errors.New("nothing to roll back to: no other object has counted well here")

// trial is the time after a swap in which the new object may be rolled back.
type trial struct {
	before Object // what to go back to
	until  time.Time
	surge  *Surge
}

// put swaps an object in, and nothing else. It returns how long the exchange
// itself took; parsing and verifying come before. The caller holds the lock.
func (a *Agent) put(o Object) (took time.Duration, err error) {
	staged := a.spare.take(o.Digest())
	if staged == nil {
		if staged, err = a.probe.Stage(o.Bytes, o.Digest()); err != nil {
			return 0, err
		}
	}
	defer staged.Close()
	return a.commit(staged, o)
}

// commit puts an object in place that the kernel has verified. The caller holds
// the lock.
func (a *Agent) commit(staged *probe.Staged, o Object) (took time.Duration, err error) {
	began := time.Now()
	if err := staged.Commit(); err != nil {
		return 0, err
	}
	took = time.Since(began)
	if o.Digest() != a.current.Digest() {
		a.swaps++
		a.trial = nil
	}
	a.current = o
	return took, nil
}

// spare is the last good object, verified by the kernel and ready to be put in
// place: a repair or a rollback then takes less than a millisecond, however long
// the verifier needs.
type spare struct {
	digest bpf.Digest
	staged *probe.Staged
	failed time.Time // when the last attempt to stage it failed
}

// take gives away what is staged if it is that object.
func (s *spare) take(digest bpf.Digest) *probe.Staged {
	if s.digest != digest {
		return nil
	}
	staged := s.staged
	*s = spare{}
	return staged
}

// prepare stages the last good object if another one or none is. Meanwhile the
// lock is free: the probe goes on being read and checked.
func (a *Agent) prepare() {
	a.mu.Lock()
	want, have := a.good, a.spare
	a.mu.Unlock()
	if want.Digest() == have.digest || time.Since(have.failed) < repairEvery {
		return
	}
	staged, err := a.probe.Stage(want.Bytes, want.Digest())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spare.close()
	if err != nil {
		a.spare.failed = time.Now()
		a.log.Warn("the last good object cannot be staged; a repair will try again", "err", err)
		return
	}
	a.spare = spare{digest: want.Digest(), staged: staged}
}

func (s *spare) close() {
	if s.staged != nil {
		_ = s.staged.Close()
	}
	*s = spare{}
}

// Swap verifies an object and puts it in the place of the one that counts. What
// it counts is watched for a while: see judge. What was found bad, or could not
// be recorded to be, is taken only if that is asked for. Errors are
// *bundle.VerifyError, *bpf.DigestError, *bpf.LayoutError, *bpf.FormatError,
// *ViolationError, *bpf.LoadError, *BadError and *HistoryError.
func (a *Agent) Swap(ctx context.Context, ask wire.SwapRequest) (result wire.SwapResult, err error) {
	o := Object{Bytes: ask.Object, Bundle: ask.Bundle, Origin: "sent to the API"}
	if len(a.cfg.Keys) == 0 {
		return result, ErrNoKey
	}
	if got := o.Digest(); ask.Digest != "" && got != ask.Digest {
		return result, &bpf.DigestError{Want: ask.Digest, Got: got}
	}
	if err := admit(o, a.cfg.Keys); err != nil {
		return result, err
	}
	if !ask.Force {
		if err := a.notBad(ctx, o.Digest()); err != nil {
			return result, err
		}
	}
	staged, err := a.probe.Stage(o.Bytes, o.Digest()) // takes the verifier's time, and the probe goes on
	if err != nil {
		return result, err
	}
	defer staged.Close()
	if ask.DryRun {
		return wire.SwapResult{Digest: o.Digest(), Previous: a.probe.Digest()}, nil
	}
	if !ask.Force {
		if err := a.record(ctx, o); err != nil {
			return result, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.swap(staged, o)
}

// swap puts an object in place and puts it on trial.
func (a *Agent) swap(staged *probe.Staged, o Object) (wire.SwapResult, error) {
	before := a.current.Digest()
	result := wire.SwapResult{Digest: o.Digest(), Previous: before}
	var err error
	if result.Took, err = a.commit(staged, o); err != nil {
		return result, fmt.Errorf("swapping in %s: %w", o.Origin, err)
	}
	switch o.Digest() {
	case before:
	case a.good.Digest(): // it has shown what it does
		a.trial = nil
	default:
		a.trial = &trial{before: a.good, until: time.Now().Add(a.cfg.Probation), surge: NewSurge(a.traffic.intervals())}
	}
	a.log.Info("swapped", "object", o.Digest(), "previous", before, "origin", o.Origin, "took", result.Took.Round(time.Microsecond))
	a.note(storeObject(o), markLoaded(o))
	return result, a.lookAgain()
}

// lookAgain makes what is told from now on tell of the object that was put in
// place. The caller holds the lock.
func (a *Agent) lookAgain() error {
	r, err := a.look()
	if err != nil {
		return err
	}
	a.latest.Store(r)
	return nil
}

// judge looks at the traffic since a swap: with a surge of retransmits the new
// object is rolled back; without one it is good after a while.
func (a *Agent) judge(now time.Time) {
	t := a.trial
	if t == nil {
		return
	}
	t.surge.Add(a.traffic.last())
	switch {
	case t.surge.Alarm():
		reason := fmt.Sprintf("retransmits surged to %.2f %% of segments, at most %.2f %% was to be expected (odds %.0f : 1)",
			100*t.surge.Rate(), 100*t.surge.Limit(), t.surge.Evidence())
		bad := a.current
		a.log.Error("rolling back", "object", bad.Digest(), "to", t.before.Digest(), "reason", reason)
		if _, err := a.put(t.before); err != nil {
			a.log.Error("not rolled back", "err", err) // what is counted is still worth telling
			return
		}
		a.trial = nil
		a.log.Warn("rolled back", "object", a.current.Digest(), "took", time.Since(now).Round(time.Microsecond))
		a.condemn(bad, reason)
		a.note(markLoaded(a.current))
	case now.After(t.until):
		a.good, a.trial = a.current, nil
		a.log.Info("good", "object", a.current.Digest())
		a.praise(a.current, "no surge of retransmits")
	}
}

// Rollback goes back to the last good object: while the current one is on trial
// that is the one before it, otherwise what the history says. An object of the
// history is verified like any other.
func (a *Agent) Rollback(ctx context.Context) (wire.SwapResult, error) {
	a.mu.Lock()
	current, onTrial := a.current, a.trial
	a.mu.Unlock()
	if onTrial != nil {
		return a.rollBackTo(onTrial.before, current)
	}
	if a.cfg.History == nil {
		return wire.SwapResult{}, ErrNothingBefore
	}
	accept := func(o objects.Object) error { // an entry of somebody else does not stand in the way
		if err := a.notBadHere(o.Digest); err != nil { // which the history may not know yet
			return err
		}
		return a.vouched(Object{Bytes: o.Bytes, Bundle: o.Bundle})
	}
	found, err := a.cfg.History.LastGoodOf(ctx, current.Digest(), accept)
	if errors.Is(err, objects.ErrNotFound) {
		return wire.SwapResult{}, ErrNothingBefore
	}
	if err != nil {
		return wire.SwapResult{}, err
	}
	to := Object{Bytes: found.Bytes, Bundle: found.Bundle, Origin: "history"}
	return a.rollBackTo(to, current)
}

// vouched verifies an object of the history, which anybody may have written:
// the ones that the daemon began with or brings along need no signature.
func (a *Agent) vouched(o Object) error {
	if d := o.Digest(); d == a.cfg.Object.Digest() || d == bpf.DigestOf(probe.Object()) {
		return nil
	}
	return admit(o, a.cfg.Keys)
}

func (a *Agent) rollBackTo(to, from Object) (wire.SwapResult, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.current.Digest() != from.Digest() {
		return wire.SwapResult{}, errors.New("rolling back: another object was swapped in meanwhile")
	}
	result := wire.SwapResult{Digest: to.Digest(), Previous: from.Digest()}
	var err error
	if result.Took, err = a.put(to); err != nil {
		return result, fmt.Errorf("rolling back: %w", err)
	}
	a.good = to
	a.log.Warn("rolled back", "object", to.Digest(), "previous", from.Digest(), "reason", "asked for", "took", result.Took.Round(time.Microsecond))
	a.condemn(from, "rolled back by hand")
	a.note(markLoaded(to))
	a.praise(to, "rolled back to")
	return result, a.lookAgain()
}
