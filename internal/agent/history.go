package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

// historyLimit bounds asking the history, and historyFor is how long its answer
// serves all readers.
const (
	historyLimit = 5 * time.Second
	historyFor   = time.Second
)

// BadError means that an object was found bad, here or on another node.
type BadError struct {
	Digest bpf.Digest
	Reason string
}

func (e *BadError) Error() string {
	return fmt.Sprintf("the eBPF object %s was found bad: %s", e.Digest, e.Reason)
}

// Hint says how to take it all the same.
func (e *BadError) Hint() string {
	return "sluice bpf history says what is known of it; --force takes it all the same"
}

// HistoryError means that the history does not say whether an object is bad, or
// could not be told.
type HistoryError struct{ Err error }

func (e *HistoryError) Error() string {
	return fmt.Sprintf("no object is taken while the history of objects cannot be read and written: %v", e.Err)
}

func (e *HistoryError) Unwrap() error { return e.Err }

// Hint says what to look at.
func (e *HistoryError) Hint() string {
	return "is its disk full, or its etcd away? --force takes the object all the same, but whether it is good or bad may be forgotten"
}

// notBad returns a *BadError for an object that was found bad, and a
// *HistoryError if that cannot be known.
func (a *Agent) notBad(ctx context.Context, digest bpf.Digest) error {
	if err := a.notBadHere(digest); err != nil || a.cfg.History == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, historyLimit)
	defer cancel()
	e, err := a.cfg.History.Find(ctx, digest)
	if errors.Is(err, objects.ErrNotFound) {
		return nil
	}
	if err != nil {
		return &HistoryError{err}
	}
	if reason, bad := badReason(e); bad {
		return &BadError{Digest: digest, Reason: reason}
	}
	return nil
}

// notBadHere returns a *BadError for an object that this daemon has rolled back.
func (a *Agent) notBadHere(digest bpf.Digest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if reason, bad := a.bad[digest]; bad {
		return &BadError{Digest: digest, Reason: reason}
	}
	return nil
}

// record stores an object before it is loaded. The error is a *HistoryError.
func (a *Agent) record(ctx context.Context, o Object) error {
	if a.cfg.History == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, historyLimit)
	defer cancel()
	if err := storeObject(o)(ctx, a.cfg.History); err != nil {
		return &HistoryError{err}
	}
	return nil
}

// condemn calls an object bad. The caller holds the lock.
func (a *Agent) condemn(o Object, why string) {
	a.bad[o.Digest()] = why
	a.note(markBad(o, why))
}

// praise calls an object good. The caller holds the lock.
func (a *Agent) praise(o Object, why string) {
	delete(a.bad, o.Digest())
	a.note(markGood(o, why))
}

// known is what the history said last, for all readers.
type known struct {
	mu   sync.Mutex
	at   time.Time
	list []wire.Object
	err  error
}

// history is what is known of objects, the newest first, as of a moment ago: a
// thousand readers read it once a second.
func (a *Agent) history(ctx context.Context) ([]wire.Object, error) {
	if a.cfg.History == nil {
		return []wire.Object{}, nil
	}
	k := &a.known
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.at) < historyFor {
		return k.list, k.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), historyLimit) // who asks first may go, the others wait
	defer cancel()
	entries, err := a.cfg.History.List(ctx)
	k.list, k.err, k.at = []wire.Object{}, err, time.Now()
	for _, e := range slices.Backward(entries) {
		o := wire.Object{Digest: e.Digest, Time: e.Time, Good: e.Good, Signed: len(e.Bundle) > 0}
		o.Bad, _ = badReason(e)
		k.list = append(k.list, o)
	}
	return k.list, k.err
}

// forget makes the next reader see what was just written.
func (k *known) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.at = time.Time{}
}

func badReason(e objects.Entry) (reason string, bad bool) {
	if reason, bad = e.Bad(); bad {
		reason = cmp.Or(reason, "nobody said why")
	}
	return reason, bad
}
