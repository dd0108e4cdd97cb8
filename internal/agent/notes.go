package agent

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/internal/objects"
)

// note is something to write into the history of objects. It is written beside
// the measurement: an etcd that does not answer holds nothing up.
type note func(context.Context, *objects.History) error

// noteLimit bounds one write, and noteAgain is how long one that failed waits.
const (
	noteLimit = 10 * time.Second
	noteAgain = 5 * time.Second
)

// notes are those that are not written yet, in their order.
type notes struct {
	queue     chan note
	unwritten *atomic.Int64
	lost      *atomic.Uint64
}

func newNotes() notes {
	return notes{queue: make(chan note, 64), unwritten: new(atomic.Int64), lost: new(atomic.Uint64)}
}

func storeObject(o Object) note {
	return func(ctx context.Context, h *objects.History) error {
		_, err := h.Put(ctx, o.Bytes, o.Bundle)
		return err
	}
}

func markLoaded(o Object) note {
	return func(ctx context.Context, h *objects.History) error { return h.MarkLoaded(ctx, o.Digest()) }
}

func markGood(o Object, why string) note {
	return func(ctx context.Context, h *objects.History) error { return h.MarkGood(ctx, o.Digest(), why) }
}

func markBad(o Object, why string) note {
	return func(ctx context.Context, h *objects.History) error { return h.MarkBad(ctx, o.Digest(), why) }
}

// note queues notes. If the history has not answered for so long that the queue
// is full, they are lost, and the log says so.
func (a *Agent) note(list ...note) {
	if a.cfg.History == nil {
		return
	}
	for _, n := range list {
		a.notes.unwritten.Add(1)
		select {
		case a.notes.queue <- n:
		default:
			a.lose(errors.New("the history of objects is behind"))
		}
	}
}

// writeNotes writes notes in their order, each until it is written, and those
// that are left when the context ends once.
func (a *Agent) writeNotes(ctx context.Context) {
	for {
		select {
		case n := <-a.notes.queue:
			a.write(ctx, n)
			continue
		case <-ctx.Done():
		}
		select {
		case n := <-a.notes.queue:
			a.write(ctx, n)
		default:
			return
		}
	}
}

// write writes a note, again and again if need be: what is bad has to be known
// after a restart, and by other nodes. What the history will never take is lost,
// and so is what it does not take when the context has ended.
func (a *Agent) write(ctx context.Context, n note) {
	for failed := false; ; failed = true {
		err := a.writeOnce(context.WithoutCancel(ctx), n)
		switch {
		case err == nil && failed:
			a.log.Info("the history of objects is written again")
			fallthrough
		case err == nil:
			a.notes.unwritten.Add(-1)
			return
		case ctx.Err() != nil || hopeless(err):
			a.lose(err)
			return
		case !failed:
			a.log.Warn("writing the history of objects: it is tried again until it works", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(noteAgain):
		}
	}
}

func (a *Agent) writeOnce(ctx context.Context, n note) error {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	defer a.known.forget()
	return n(ctx, a.cfg.History)
}

func (a *Agent) lose(why error) {
	a.notes.unwritten.Add(-1)
	a.notes.lost.Add(1)
	a.log.Warn("an event of the history of objects is lost", "err", why)
}

// hopeless reports whether trying again would not help.
func hopeless(err error) bool {
	return errors.Is(err, objects.ErrNotFound) || is[*objects.TooLargeError](err)
}
