package hook

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// rollOut gives the release traffic step by step. With a pass it leaves the last
// step's weight: the stable Deployment gets the image next, and PostSync puts the
// traffic to rest.
func (h *hook) rollOut(ctx context.Context) (Verdict, error) {
	if v, err := h.found(ctx); err != nil {
		return Verdict{}, err
	} else if v != nil && v.Trigger == release.Operator && v.Operation == h.app.operation() {
		return *v, nil // taken back by hand: not to be tried again by this sync
	}
	records, err := h.ledger.Records(ctx)
	if err != nil {
		return Verdict{}, err
	}
	first, err := h.openOrFirst(ctx, records)
	if why := h.unfit(records, err); why != "" {
		return h.nothing(ctx, why, err)
	}
	if err != nil {
		return Verdict{}, err
	}
	if why := h.serves(records, first); why != "" {
		return h.nothing(ctx, why, nil)
	}
	if !first {
		if _, canary := h.target.Images(); !same(canary, h.Image) {
			return Verdict{}, h.otherImage("canary", canary)
		}
	}
	open, resumed := h.unfinished(records)
	resumed = resumed && open.Gate == h.gateDigest() // under other settings it is judged anew
	if resumed {
		if v, err := h.found(ctx); err != nil || v != nil && v.Rollout == open.ID {
			return h.sticky(v, err)
		}
	} else if r, ok := release.Decided(records, h.Image, h.gateDigest()); ok && r.Outcome != release.Promoted {
		return h.refuse(ctx, again(r))
	}
	evidence, v, err := h.admitted(ctx, running(records))
	if err != nil || v.failed() {
		return h.refused(ctx, v, err, records)
	}
	if !resumed {
		open = release.Rollout{}
	}
	if err := h.closeForeign(ctx, records, open.ID); err != nil {
		return Verdict{}, err
	}
	if !resumed {
		open = h.rollout(records, evidence)
		if open.ID, err = h.ledger.Start(ctx, open); err != nil {
			return Verdict{}, err
		}
	}
	if first {
		return h.refuse(ctx, Verdict{Rollout: open.ID, Reason: "first release: no version to compare it with"})
	}
	return h.judge(ctx, open, resumed)
}

// sticky is the verdict of an earlier run of this very rollout.
func (h *hook) sticky(v *Verdict, err error) (Verdict, error) {
	if err != nil {
		return Verdict{}, err
	}
	h.say("rollout %d was decided by an earlier run of this hook", v.Rollout)
	return *v, nil
}

// rollout is the ledger's entry for the start of this release.
func (h *hook) rollout(records []release.Record, evidence release.Rollout) release.Rollout {
	r := release.Rollout{
		Name: h.service(), Version: versionOf(h.Image), Image: h.Image, Gate: h.gateDigest(), Env: h.Config.Deploy.Target + "/" + h.namespace(),
		Object: evidence.Object, Commit: evidence.Commit, Digest: evidence.Digest, Started: h.now(),
	}
	r.Previous = running(records)
	return r
}

// running is the version that serves, "" if none does.
func running(records []release.Record) string {
	r, _ := release.Running(records)
	return r.Version
}

// unfinished is the rollout of this release that has not ended.
func (h *hook) unfinished(records []release.Record) (release.Rollout, bool) {
	open := release.Unfinished(records)
	i := slices.IndexFunc(open, func(r release.Rollout) bool {
		return r.Operator == "" && same(r.Image, h.Image)
	})
	if i < 0 {
		return release.Rollout{}, false
	}
	return open[i], true
}

// closeForeign records how rollouts ended whose hooks never came to it: a sync
// that was terminated runs no hook any more.
func (h *hook) closeForeign(ctx context.Context, records []release.Record, but int) error {
	for _, r := range release.Unfinished(records) {
		if r.ID == but || r.Operator != "" && h.now().Sub(r.Started) < h.limit() { // a person may be at it
			continue
		}
		left, err := h.lastVerdict(ctx)
		if err != nil {
			return err
		}
		end, err := h.endOf(ctx, r, left)
		if err != nil {
			return err
		}
		if err := h.finish(ctx, r.ID, end); err != nil {
			return err
		}
	}
	return nil
}

// endOf is how a rollout ended that nobody closed, from what was left of it.
func (h *hook) endOf(ctx context.Context, r release.Rollout, left *Verdict) (release.Result, error) {
	const note = "the sync ended without closing it"
	stable, err := h.stableHas(ctx, r.Image)
	if err != nil {
		return release.Result{}, err
	}
	if stable {
		end := release.Result{Outcome: release.Promoted, Ended: h.now(), Reason: "the stable version runs it; " + note}
		if left != nil && left.Rollout == r.ID {
			end.Verdict = left.Verdict
		}
		return end, nil
	}
	if left != nil && left.Rollout == r.ID && left.failed() && left.Result != nil {
		end := *left.Result
		end.Ended = h.now()
		return end, nil
	}
	return release.Result{Outcome: release.RolledBack, Trigger: release.Death, Ended: h.now(), Reason: note}, nil
}

// judge runs the plan. What an earlier run left is put to rest first, and its
// evidence is not used: nobody knows what happened since.
func (h *hook) judge(ctx context.Context, open release.Rollout, resumed bool) (Verdict, error) {
	plan := verdict.Plan(h.Config.Deploy.Canary)
	if resumed {
		h.happened("rollout %d begins anew: an earlier run of this hook ended without a verdict", open.ID)
		if err := h.target.Settle(ctx); err != nil {
			return Verdict{}, err
		}
		plan.Deadline -= min(h.now().Sub(open.Started), plan.Deadline)
	} else {
		h.happened("rollout %d: %s beside %s", open.ID, open.Version, cmp.Or(open.Previous, "the stable version"))
	}
	if err := plan.Validate(); err != nil && resumed {
		return h.decided(ctx, open, plan, ended(gate.Inconclusive, canary.None,
			fmt.Sprintf("no pass within %v: this hook was interrupted, and what is left of the time is too short", h.Config.Deploy.Canary.Deadline)))
	}
	result, err := h.roll(ctx, plan, open.Object)
	if err != nil {
		err = errors.Join(err, h.target.Isolate())
	}
	if stop := h.stopped(ctx, err); stop != nil {
		return h.interrupted(ctx, stop, err)
	}
	if err != nil { // whatever the gate had said so far
		looks, traffic := result.Looks, result.Timeline.Traffic
		bad, ok := notReady(err, h.now())
		if !ok {
			return h.givenUp(ctx, open, err)
		}
		result = bad
		result.Looks, result.Timeline.Traffic = looks, traffic
	}
	return h.decided(ctx, open, plan, result)
}

// givenUp ends a rollout that could not be carried out. That says nothing of the
// release: it is taken back, and may be released again.
func (h *hook) givenUp(ctx context.Context, open release.Rollout, err error) (Verdict, error) {
	reason := fmt.Sprintf("the rollout could not be carried out: %v", err)
	v := h.complete(Verdict{
		Rollout: open.ID, Trigger: release.Environment, Reason: reason,
		Hint:   cmp.Or(hintOf(err), "the release is not to blame: commit it again when this is mended"),
		Result: &release.Result{Outcome: release.RolledBack, Trigger: release.Environment, Reason: reason}, // if no hook follows
	}, nil)
	h.say("%s", v.Reason)
	return h.handOver(ctx, handover{Verdict: &v})
}

func ended(o gate.Outcome, t canary.Trigger, reason string) canary.Result {
	return canary.Result{Verdict: gate.Verdict{Outcome: o, Reason: reason}, Trigger: t, Reason: reason}
}

// stopped is why a rollout ended that came to no verdict; nil if it did.
func (h *hook) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && exitCode(err) == exitTransient {
		return err
	}
	return nil
}

// interrupted ends a run without a verdict: the next run begins anew. Who took
// the lock to take the release back has left a verdict.
func (h *hook) interrupted(ctx context.Context, why, rolling error) (Verdict, error) {
	h.say("interrupted: %v; the rollout ended with: %v", why, rolling)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), last/2)
	defer cancel()
	if v, err := h.found(ctx); err == nil && v != nil && v.Trigger == release.Operator {
		return *v, nil
	}
	return Verdict{}, why
}

// decided leaves the verdict to the hooks that follow.
func (h *hook) decided(ctx context.Context, open release.Rollout, plan canary.Plan, r canary.Result) (Verdict, error) {
	result := verdict.Result(r, h.now())
	v := h.complete(Verdict{
		Verdict: result.Verdict, Trigger: result.Trigger, Reason: r.Reason, Rollout: open.ID, Result: &result,
	}, nil)
	if r.Promote {
		v.Reason = r.Verdict.Reason
		result.Reason = r.Verdict.Reason
	}
	h.say("%s: %s", v.Word(), v.Reason)
	return h.handOver(ctx, handover{Verdict: &v, Looks: r.Looks, Recording: &verdict.Recording{
		Record: release.Record{Rollout: open, Result: result}, Verdict: r.Verdict, Gate: verdict.Gate(h.Config.Deploy.Gate),
		Plan: plan, Timeline: r.Timeline, Events: h.notes,
	}})
}

// handOver leaves the end of a rollout to the hooks that follow, although time may
// be up. If a person has taken the rollout back meanwhile, his word is the end.
func (h *hook) handOver(ctx context.Context, o handover) (Verdict, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), last)
	defer cancel()
	err := h.leave(ctx, o)
	var taken *takenBackError
	if errors.As(err, &taken) {
		return taken.Verdict, nil
	}
	return *o.Verdict, err
}

// notReady turns a canary that does not come up into a verdict; ok is false for
// any other error.
func notReady(err error, now time.Time) (canary.Result, bool) {
	var e *k8s.NotReadyError
	if !errors.As(err, &e) {
		return canary.Result{}, false
	}
	r := ended(gate.Fail, canary.Crash, e.Error())
	r.Timeline.Verdict = now
	return r, true
}
