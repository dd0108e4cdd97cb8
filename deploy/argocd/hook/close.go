package hook

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apps "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

var deployments = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}

// deployment reads one of the two Deployments.
func (h *hook) deployment(ctx context.Context, track string) (*apps.Deployment, error) {
	var d apps.Deployment
	_, err := h.api.get(ctx, object{deployments, h.namespace(), h.service() + "-" + track}, &d)
	return &d, err
}

// stableHas reports whether the stable Deployment asks for this image.
func (h *hook) stableHas(ctx context.Context, image string) (bool, error) {
	d, err := h.deployment(ctx, "stable")
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && same(k8s.Image(d, h.service()), image), err
}

// promoted reports whether the stable Deployment runs this image, and no pod of
// it another one. Once all of them were available, one that is not just now is no
// reason to go back.
func (h *hook) promoted(ctx context.Context) (bool, error) {
	d, err := h.deployment(ctx, "stable")
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if !same(k8s.Image(d, h.service()), h.Image) {
		return false, nil
	}
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == want && s.Replicas == want &&
		(s.AvailableReplicas == want || wasComplete(s)), nil
}

// wasComplete reports whether the controller has seen the Deployment's rollout
// through.
func wasComplete(s apps.DeploymentStatus) bool {
	return slices.ContainsFunc(s.Conditions, func(c apps.DeploymentCondition) bool {
		return c.Type == apps.DeploymentProgressing && c.Reason == "NewReplicaSetAvailable"
	})
}

// postsync puts the traffic to rest and closes the books of a release that is
// stable now.
func (h *hook) postsync(ctx context.Context) (Verdict, error) {
	if err := h.orAnyTarget(); err != nil {
		return Verdict{}, err
	}
	if err := h.target.Settle(ctx); err != nil {
		return Verdict{}, err
	}
	h.happened("traffic to the stable version, canary to zero")
	records, err := h.ledger.Records(ctx)
	if err != nil {
		return Verdict{}, err
	}
	open, ok := h.unfinished(records)
	if !ok {
		return Verdict{Reason: "no rollout of this release is open", idle: true}, h.closeForeign(ctx, records, 0)
	}
	stable, err := h.deployment(ctx, "stable")
	if err != nil {
		return Verdict{}, err
	}
	if image := k8s.Image(stable, h.service()); !same(image, h.Image) {
		return Verdict{}, h.otherImage("stable", image)
	}
	v, err := h.found(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return h.promote(ctx, open, v, "")
}

// otherImage says that a Deployment does not have the image that a hook was told of.
func (h *hook) otherImage(track, image string) error {
	return &SettingsError{
		What:   fmt.Sprintf("the %s Deployment has the image %s, not the release %s", track, image, h.Image),
		Advice: "stable, canary and hooks have to get their image from the same entry of images in kustomization.yaml; render the manifests again",
	}
}

// promote records that a release is stable now.
func (h *hook) promote(ctx context.Context, open release.Rollout, found *Verdict, note string) (Verdict, error) {
	v := Verdict{Rollout: open.ID, Reason: "promoted without a verdict: the gate of this sync left none"}
	if found != nil && found.Rollout == open.ID {
		v = *found
	}
	r := release.Result{Outcome: release.Promoted, Verdict: v.Verdict, Reason: v.Reason + note, Ended: h.now()}
	if v.Result != nil {
		r.Requests, r.Timeline = v.Result.Requests, v.Result.Timeline
	}
	if v.failed() { // the gate's word does not become a pass because somebody went on
		r.Reason = fmt.Sprintf("promoted against the verdict (%s): %s", v.Word(), v.Reason)
	}
	v.Result, v.Reason = &r, r.Reason
	return v, h.finish(ctx, open.ID, r)
}

// finish records how a rollout ended; who was first stays.
func (h *hook) finish(ctx context.Context, id int, r release.Result) error {
	err := h.ledger.Finish(ctx, id, r)
	var ended *release.FinishedError
	if errors.As(err, &ended) {
		h.say("rollout %d was closed before", id)
		return nil
	}
	return err
}

// syncfail takes a release back: the traffic first, then the books, then git. One
// that cannot be done does not keep the next from being done.
func (h *hook) syncfail(ctx context.Context) (Verdict, error) {
	settled := h.settle(ctx)
	if h.app.Application == nil || h.ledger == nil {
		return Verdict{}, settled
	}
	records, err := h.ledger.Records(ctx)
	if err != nil {
		return Verdict{}, errors.Join(settled, err)
	}
	v, err := h.found(ctx)
	if err != nil {
		return Verdict{}, errors.Join(settled, err)
	}
	open, isOpen := h.unfinished(records)
	if done, err := h.promoted(ctx); err != nil {
		return Verdict{}, errors.Join(settled, err)
	} else if done {
		return h.afterAll(ctx, open, isOpen, v, settled)
	}
	var current bool
	if v != nil {
		current = isOpen && v.Rollout == open.ID || v.Operation != "" && v.Operation == h.app.operation()
	}
	switch {
	case current && v.Verdict == gate.Pass.String():
		*v = Verdict{Rollout: v.Rollout, Trigger: release.Crash, Verdict: gate.Fail.String(), Result: v.Result, Image: v.Image}
		v.Reason = "the gate passed it, but the stable version did not get it: " + h.app.message()
	case current && v.failed():
	case current && isOpen: // a first release, which has no verdict
		*v = Verdict{Rollout: v.Rollout, Trigger: release.Crash, Image: v.Image, Reason: "the first release did not come up: " + h.app.message()}
	case isOpen:
		v = &Verdict{Rollout: open.ID, Trigger: release.Death}
		v.Reason = "no verdict: the hook that judges it ended before it had one (" + h.app.message() + "); that is not the release's fault, it may be released again"
		*v = h.complete(*v, nil)
		settled = errors.Join(settled, h.leave(ctx, handover{Verdict: v})) // for the next run, if this one is killed before git is put right
	default:
		return h.before(settled)
	}
	return h.takeBack(ctx, open, isOpen, *v, settled)
}

// settle puts the traffic to rest, whatever state things are in. Only weights of
// somebody else stay, if no rollout of ours can have met them.
func (h *hook) settle(ctx context.Context) error {
	if h.ledger != nil {
		records, err := h.ledger.Records(ctx)
		var foreign *k8s.WeightsError
		if err == nil && len(release.Unfinished(records)) == 0 && errors.As(h.open(ctx), &foreign) {
			h.say("the traffic stays as it is: %v", foreign)
			return nil
		}
	}
	if err := h.orAnyTarget(); err != nil {
		return err
	}
	if err := h.target.Settle(ctx); err != nil {
		return err
	}
	h.happened("traffic to the stable version, canary to zero")
	return nil
}

// afterAll ends a sync that failed when the release was stable already: there is
// nothing to take back.
func (h *hook) afterAll(ctx context.Context, open release.Rollout, isOpen bool, v *Verdict, settled error) (Verdict, error) {
	if !isOpen {
		return Verdict{Reason: "the stable version runs this image: nothing to take back", idle: true}, settled
	}
	out, err := h.promote(ctx, open, v, "; the sync failed after it: "+h.app.message())
	out.Reverted = "git was not reverted: the stable version runs this release"
	return out, errors.Join(settled, err)
}

// before ends a sync that failed before the release was judged or refused: that
// says nothing of the release, and the hook that failed has told why.
func (h *hook) before(settled error) (Verdict, error) {
	v := Verdict{idle: true, Reason: "the sync failed before the release was judged: " + h.app.message(), Reverted: "git was not reverted: nothing was found wrong with the release; when the cause is mended: sluice-argo sync"}
	h.say("%s; %s", v.Reason, v.Reverted)
	return v, settled
}

// takeBack closes the books of a release that failed and reverts it in git.
func (h *hook) takeBack(ctx context.Context, open release.Rollout, isOpen bool, v Verdict, settled error) (Verdict, error) {
	v = h.complete(v, nil)
	errs := []error{settled}
	if isOpen {
		r := release.Result{Outcome: release.RolledBack, Verdict: v.Verdict, Trigger: v.Trigger, Reason: v.Reason, Ended: h.now()}
		if v.Result != nil {
			r.Requests, r.Timeline = v.Result.Requests, v.Result.Timeline
		}
		v.Result = &r
		errs = append(errs, h.finish(ctx, open.ID, r))
	}
	reverted, err := h.revert(ctx, v, h.app.revision(), h.app.good())
	if err != nil {
		reverted = "git was not reverted: " + err.Error()
		if hint := hintOf(err); hint != "" {
			reverted += " — " + hint
		}
	}
	v.Reverted = reverted
	h.say("%s", reverted)
	return v, errors.Join(append(errs, err)...)
}
