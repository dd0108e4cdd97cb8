package k8s

import (
	"context"
	"errors"
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
)

// glance bounds one call of Prepare: whoever makes it has a canary to watch.
const glance = 2 * time.Second

// lookLimit bounds one look at why pods are not ready, or whether they are gone.
const lookLimit = 5 * time.Second

// growth is a canary on its way to a number of pods.
type growth struct {
	began time.Time
	pods  int              // asked for; 0: none yet
	seen  *apps.Deployment // when it was looked at last
}

// Prepare asks for the pods that a weight takes and reports whether they serve.
// It does not wait for them: it is to be called again, while the canary is watched
// at the traffic that it has. Without a route that grows with every pod that
// gets ready. Errors: *NotReadyError when it takes longer than Service.Ready, and
// *ChangedError.
func (t *Target) Prepare(weight int) (ready bool, err error) {
	if weight >= full {
		return true, nil
	}
	ctx, cancel := t.bounded(glance)
	defer cancel()
	ready, err = t.prepare(ctx, weight)
	switch {
	case ready:
		t.prepared = weight
	case err == nil:
		return false, nil
	case t.rollout.Err() == nil && t.life.Err() == nil && ctx.Err() != nil && time.Since(t.growth.began) < t.svc.ready():
		return false, nil // the API server is away, or slow
	}
	t.growth = nil
	return ready, err
}

// bounded is a context for calls of a rollout that have none of their own.
func (t *Target) bounded(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(t.life, d)
	stop := context.AfterFunc(t.rollout, cancel)
	return ctx, func() { stop(); cancel() }
}

// prepare is one look at whether the canary has the pods for a weight.
func (t *Target) prepare(ctx context.Context, weight int) (bool, error) {
	if t.growth == nil {
		t.growth = &growth{began: time.Now()}
	}
	n, err := t.need(ctx, weight)
	if err != nil {
		return false, err
	}
	if t.growth.pods == 0 {
		d, err := t.deployment(ctx, t.svc.canary(), false)
		if err != nil {
			return false, err
		}
		if err := t.unchanged(d); err != nil {
			return false, err
		}
		if n <= t.replicas && n <= int(d.Status.ReadyReplicas) {
			return true, nil
		}
	}
	return t.grown(ctx, t.growth, max(n, t.replicas))
}

// need is how many canary pods a weight takes now.
func (t *Target) need(ctx context.Context, weight int) (int, error) {
	d, err := t.deployment(ctx, t.svc.stable(), false)
	if err != nil {
		return 0, err
	}
	return Replicas(weight, replicas(d), t.svc.Route), nil
}

// grow scales the canary to n pods and waits until they are ready.
func (t *Target) grow(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, t.svc.ready())
	defer cancel()
	g := &growth{began: time.Now()}
	err := until(ctx, func() (bool, error) { return t.grown(ctx, g, n) })
	switch {
	case err == nil || ctx.Err() == nil || errors.As(err, new(*NotReadyError)):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("waiting for the pods of %s: %w", t.svc.canary(), context.Cause(ctx))
	case g.seen == nil:
		return err
	}
	return t.notReady(ctx, g, false)
}

// until looks again and again, until it is so or the context ends.
func until(ctx context.Context, so func() (bool, error)) error {
	for {
		if ok, err := so(); ok || err != nil {
			return err
		}
		if err := wait(ctx, poll); err != nil {
			return err
		}
	}
}

// grown scales the canary to n pods, if that was not done yet, and reports
// whether they are ready.
func (t *Target) grown(ctx context.Context, g *growth, n int) (bool, error) {
	if g.pods != n {
		if err := t.scale(ctx, n, false); err != nil {
			return false, err
		}
		g.pods = n
	}
	d, err := t.deployment(ctx, t.svc.canary(), false)
	if err != nil {
		return false, err
	}
	if err := t.unchanged(d); err != nil {
		return false, err
	}
	g.seen = d
	if done, err := t.settled(ctx, d, n); done || err != nil {
		return done, err
	}
	early, err := t.noneWillBe(ctx, d)
	if err == nil && (early || time.Since(g.began) >= t.svc.ready()) {
		err = t.notReady(ctx, g, early)
	}
	return false, err
}

// notReady says why the pods are not; the time for it may be over already.
func (t *Target) notReady(ctx context.Context, g *growth, early bool) *NotReadyError {
	ask, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	return &NotReadyError{
		Deployment: t.svc.canary(), Namespace: t.svc.Namespace, Image: t.images[1], Want: g.pods, Have: int(g.seen.Status.ReadyReplicas),
		After: time.Since(g.began), Why: t.why(ask, g.seen, "canary"), Early: early,
	}
}

// unchanged refuses a canary that is not any more the one that Open saw.
func (t *Target) unchanged(d *apps.Deployment) error {
	if now := Image(d, t.svc.Name); t.images[1] != "" && now != t.images[1] {
		return &ChangedError{Object: "the image of deployment " + d.Name, Was: t.images[1], Is: now, By: author(d.ObjectMeta, `"f:image"`)}
	}
	return t.sameScale(d)
}

// settled reports whether n pods of the newest template are ready, no others are
// left, and the endpoint slices show it.
func (t *Target) settled(ctx context.Context, d *apps.Deployment, n int) (bool, error) {
	s, want := d.Status, int32(n)
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.Replicas != want || s.ReadyReplicas != want {
		return false, nil
	}
	found, err := t.endpoints(ctx, t.svc.canary())
	return err == nil && ready(found[t.svc.canary()]) >= n, err
}

// noneWillBe reports whether there are pods and none of them can get ready.
func (t *Target) noneWillBe(ctx context.Context, d *apps.Deployment) (bool, error) {
	if d.Status.ReadyReplicas > 0 || d.Status.UnavailableReplicas == 0 {
		return false, nil
	}
	pods, err := t.pods(ctx, "canary")
	if err != nil || len(pods) == 0 {
		return false, err
	}
	for _, p := range pods {
		if p.DeletionTimestamp == nil && !hopeless(p, t.svc.Name) {
			return false, nil
		}
	}
	return true, nil
}
