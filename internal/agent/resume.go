package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/objects"
)

// resume chooses the object that a start takes; nil is that of the flags. One that
// was named (--object) is always taken, and so is a built-in one that never
// counted here: the daemon is another version. Otherwise a restart goes on with
// what was loaded here last, if that was found good and its signature holds.
// Unless it is what the flags say, the log says which one is taken, and why.
func (a *Agent) resume() *Object {
	if a.cfg.History == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), historyLimit)
	defer cancel()
	given := a.cfg.Object.Digest()
	before, err := a.cfg.History.LoadedHere(ctx)
	if err != nil {
		a.log.Warn("taking the object of the flags: the history does not say what was loaded last", "object", given, "err", err)
		return nil
	}
	var bad *BadError
	if errors.As(a.notBad(ctx, given), &bad) {
		a.bad[given] = bad.Reason
		a.log.Warn("the object of the flags was found bad", "object", given, "reason", bad.Reason)
	}
	last := a.lastOf(ctx, before)
	if last == nil || last.Digest() == given {
		return nil
	}
	log := a.log.With("given", given, "last", last.Digest())
	switch {
	case given != bpf.DigestOf(probe.Object()):
		log.Warn("taking the object of --object, not the good one that was loaded last; sluice bpf swap takes that again")
		return nil
	case bad == nil && !slices.ContainsFunc(before, func(e objects.Entry) bool { return e.Digest == given }):
		log.Warn("taking the built-in object, which is new here, not the good one that was loaded last; sluice bpf swap takes that again")
		return nil
	}
	log.Info("taking the good object that was loaded last, not the built-in one; sluice bpf rollback goes back")
	return last
}

// lastOf is the first of the objects that is good, whole and vouched for.
func (a *Agent) lastOf(ctx context.Context, list []objects.Entry) *Object {
	for _, e := range list {
		if !e.Good {
			a.log.Info("not going on with an object that is not known to be good", "object", e.Digest)
			continue
		}
		found, err := a.cfg.History.Get(ctx, e.Digest)
		o := Object{Bytes: found.Bytes, Bundle: found.Bundle, Origin: "history"}
		if err == nil {
			err = a.vouched(o)
		}
		if err == nil {
			return &o
		}
		a.log.Warn("not going on with an object of the history", "object", e.Digest, "err", err)
	}
	return nil
}
