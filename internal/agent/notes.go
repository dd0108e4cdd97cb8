package agent

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/internal/objects"
)

// note is something to write into the history of objects. It is written beside
// the measurement: an etcd that does not answer holds nothing up.
type note func(context.Context, *objects.History) error

// noteLimit bounds one write.
const noteLimit = 10 * time.Second

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
		select {
		case a.notes <- n:
		default:
			a.log.Warn("the history of objects is behind: an event is lost")
		}
	}
}

// writeNotes writes notes in their order, and those that are left when the
// context ends.
func (a *Agent) writeNotes(ctx context.Context) {
	write := func(ctx context.Context, n note) {
		ctx, cancel := context.WithTimeout(ctx, noteLimit)
		defer cancel()
		if err := n(ctx, a.cfg.History); err != nil {
			a.log.Warn("writing the history of objects", "err", err)
		}
	}
	for {
		select {
		case n := <-a.notes:
			write(context.WithoutCancel(ctx), n)
			continue
		case <-ctx.Done():
		}
		for {
			select {
			case n := <-a.notes:
				write(context.WithoutCancel(ctx), n)
			default:
				return
			}
		}
	}
}
