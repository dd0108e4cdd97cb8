package hook

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-cd/sluice/deploy/argocd/origin"
	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/gitops"
	"github.com/sluice-cd/sluice/internal/release"
)

// presync asks whether the release may get traffic at all, before anything of it
// is in the cluster.
func (h *hook) presync(ctx context.Context) (Verdict, error) {
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
	if err := h.checkVersion(); err != nil {
		return Verdict{}, err
	}
	if err := h.checkTarget(ctx); err != nil {
		return Verdict{}, err
	}
	if r, ok := release.Decided(records, h.Image, h.gateDigest()); ok && r.Outcome != release.Promoted {
		if err := h.closeForeign(ctx, records, 0); err != nil {
			return Verdict{}, err
		}
		return h.refuse(ctx, again(r))
	}
	evidence, v, err := h.admitted(ctx, running(records))
	if err != nil || v.failed() {
		return h.refused(ctx, v, err, records)
	}
	if !first {
		if err := h.checkProbes(ctx, evidence.Object); err != nil {
			var untrusted *UntrustedError
			if !errors.As(err, &untrusted) {
				return v, err
			}
			v.Verdict, v.Reason = gate.Invalid.String(), untrusted.Error()
			return h.refused(ctx, v, nil, records)
		}
	}
	v.Reason = "admitted: signatures, attestations and rules hold"
	h.say("%s %s", h.Image, v.Reason)
	v.idle = true // the word on the Application is the gate's
	return v, nil
}

// openOrFirst opens the target. It returns true for the first release of all,
// whose objects are not there yet, or whose pods never served: there is nothing to
// compare it with.
func (h *hook) openOrFirst(ctx context.Context, records []release.Record) (first bool, err error) {
	err = h.open(ctx)
	if _, served := release.Running(records); served {
		return false, err
	}
	var absent *k8s.AbsentError
	var none *k8s.NoEndpointsError
	if errors.As(err, &absent) && absent.First || errors.As(err, &none) {
		return true, nil
	}
	return false, err
}

// serves says why there is nothing to roll out; "" if there is.
func (h *hook) serves(records []release.Record, first bool) string {
	if first {
		return ""
	}
	if stable, _ := h.target.Images(); same(stable, h.Image) {
		return "the stable version runs this image already"
	}
	if r, ok := release.Running(records); ok && same(r.Image, h.Image) {
		return fmt.Sprintf("the ledger's last good release is this image (rollout %d): going back to it needs no gate", r.ID)
	}
	return ""
}

// unfit says why objects that are not in order are no reason to stop; "" if they
// are. Where nothing is to be rolled out, the commit that is synced may be the very
// one that puts them in order.
func (h *hook) unfit(records []release.Record, err error) string {
	var (
		none    *k8s.NoEndpointsError
		foreign *apiserver.ForeignError
		shape   *k8s.UnfitError
		weights *k8s.WeightsError
		absent  *k8s.AbsentError
	)
	if !errors.As(err, &none) && !errors.As(err, &foreign) && !errors.As(err, &shape) && !errors.As(err, &weights) && !errors.As(err, &absent) {
		return ""
	}
	if r, ok := release.Running(records); ok && same(r.Image, h.Image) {
		return fmt.Sprintf("the ledger's last good release is this image (rollout %d)", r.ID)
	}
	return ""
}

// nothing ends a hook that has nothing to roll out. What a killed hook left is
// put to rest; what is not ours, and weights that a person has set, stay.
func (h *hook) nothing(ctx context.Context, why string, unfit error) (Verdict, error) {
	h.say("nothing to do: %s", why)
	v := Verdict{Reason: why, idle: true}
	if unfit != nil {
		h.say("not in order, and left as it is: %v", unfit)
	}
	var weights *k8s.WeightsError
	if errors.As(unfit, &weights) {
		return v, nil
	}
	if err := h.orAnyTarget(); err != nil {
		return Verdict{}, err
	}
	err := h.target.Settle(ctx)
	if err != nil && unfit != nil && ctx.Err() == nil {
		h.say("%v", err)
		err = nil
	}
	return v, err
}

// checkVersion refuses a release that the ledger could not name.
func (h *hook) checkVersion() error {
	if v := versionOf(h.Image); !release.ValidVersion(v) {
		return &SettingsError{
			What:   fmt.Sprintf("image %s has the tag %q, which is not a Semantic Versioning 2.0.0 version like 1.4.2", h.Image, v),
			Advice: "the tag is the version of the release: set tag and digest together",
		}
	}
	return nil
}

// checkTarget asks git whether what the Application asks for can be resolved,
// and means one thing.
func (h *hook) checkTarget(ctx context.Context) error {
	repo, err := h.repository()
	if err != nil {
		return err
	}
	target := origin.Of(h.app.Application).TargetRevision
	rev, err := gitops.CheckRevision(ctx, repo, target)
	var auth *gitops.AuthError
	if errors.As(err, &auth) && !auth.Given {
		h.say("targetRevision %q was not checked: %v", target, err)
		return nil
	}
	if err == nil {
		h.say("targetRevision %q is the %s %s at %.12s", target, rev.Kind, rev.Name, rev.Commit)
	}
	return err
}

// again is a verdict that was given before.
func again(r release.Record) Verdict {
	v := Verdict{Rollout: r.ID, Verdict: r.Verdict, Trigger: r.Trigger, Reason: fmt.Sprintf("decided before, in rollout %d: %s", r.ID, r.Reason)}
	v.Hint = "a verdict holds for this image under this gate; release a fixed image, or have it judged anew: sluice-argo forget " + fmt.Sprint(r.ID)
	if v.Verdict == "" {
		v.Verdict = gate.Invalid.String()
	}
	return v
}

// refuse leaves a verdict for the hook that closes the books.
func (h *hook) refuse(ctx context.Context, v Verdict) (Verdict, error) {
	v = h.complete(v, nil)
	return v, h.leave(ctx, handover{Verdict: &v})
}

// refused enters a refusal into the ledger, once, unless what went wrong says
// nothing of the release. It is entered without a verdict: the gate was not
// asked, and when the image is signed after all, or the probe is there, it will be.
func (h *hook) refused(ctx context.Context, v Verdict, err error, records []release.Record) (Verdict, error) {
	if err != nil {
		return v, err
	}
	v.Result = &release.Result{Outcome: release.Refused, Trigger: v.Trigger, Reason: v.Reason, Ended: h.now()}
	if n := len(records); n > 0 && same(records[n-1].Image, h.Image) && records[n-1].Outcome == release.Refused && records[n-1].Reason == v.Reason {
		v.Rollout = records[n-1].ID // said before
		return h.refuse(ctx, v)
	}
	if err := h.closeForeign(ctx, records, 0); err != nil {
		return v, err
	}
	if v.Rollout, err = h.ledger.Start(ctx, h.rollout(records, release.Rollout{})); err != nil {
		return v, err
	}
	if err := h.ledger.Finish(ctx, v.Rollout, *v.Result); err != nil {
		return v, err
	}
	return h.refuse(ctx, v)
}
