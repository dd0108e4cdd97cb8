package k8s

import (
	"context"
	"errors"
	"fmt"
	"time"

	apps "k8s.io/api/apps/v1"
)

// settling is how long a data plane may take to obey a weight that was written:
// a gateway was measured at up to a second, kube-proxy at less.
const settling = time.Second

// Start scales the canary to what its first weight needs and waits until its
// pods are ready and in the endpoint slices. With a route it gets no traffic yet;
// what a killed rollout left on it is taken off first. Without one its pods get
// their share as they get ready. The context is that of the whole rollout: a
// Shift ends with it too. Errors: *NotReadyError, *ChangedError; after either
// call Settle.
func (t *Target) Start(ctx context.Context, weight int) error {
	t.rollout = ctx
	if t.svc.Route {
		calm, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		left := !t.traffic.rest()
		if err := t.divide(calm, traffic{}); err != nil {
			return err
		}
		if left { // its pods are needed as long as the gateway sends to them
			if err := t.rested(calm); err != nil {
				return fmt.Errorf("taking traffic off an earlier canary: %w", err)
			}
		}
	}
	n, err := t.need(ctx, weight)
	if err != nil {
		return err
	}
	if err := t.grow(ctx, n); err != nil {
		return err
	}
	pods, err := t.pods(ctx, "canary")
	if err != nil {
		return err
	}
	t.restarts = map[string]int32{}
	for _, p := range pods {
		t.restarts[p.Name] = restarts(p, t.svc.Name)
	}
	return nil
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
	began := time.Now()
	if err := t.scale(ctx, n, false); err != nil {
		return err
	}
	var d *apps.Deployment
	have, early := 0, false
	for {
		now, err := t.deployment(ctx, t.svc.canary(), false)
		if err == nil {
			d = now
			if err := t.unchanged(d); err != nil {
				return err
			}
			have, early = int(d.Status.ReadyReplicas), false
			var done bool
			if done, err = t.settled(ctx, d, n); done {
				return nil
			}
			if err == nil {
				early, err = t.hopeless(ctx, d)
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		if early || wait(ctx, poll) != nil {
			break
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("waiting for the pods of %s: %w", t.svc.canary(), context.Cause(ctx))
	}
	// The deadline is over; what happened may still be asked.
	ask, cancelAsk := context.WithTimeout(context.WithoutCancel(ctx), tryLimit)
	defer cancelAsk()
	return &NotReadyError{
		Deployment: t.svc.canary(), Namespace: t.svc.Namespace, Image: t.images[1], Want: n, Have: have,
		After: time.Since(began), Why: t.why(ask, d, "canary"), Early: early,
	}
}

// unchanged refuses a canary that is not any more the one that Open saw.
func (t *Target) unchanged(d *apps.Deployment) error {
	if now := image(d, t.svc.Name); t.images[1] != "" && now != t.images[1] {
		return &ChangedError{Object: "the image of deployment " + d.Name, Was: t.images[1], Is: now, By: author(d.ObjectMeta, `"f:image"`)}
	}
	if now := replicas(d); now != t.replicas {
		return &ChangedError{
			Object: "deployment " + d.Name, Was: fmt.Sprintf("%d replicas", t.replicas), Is: fmt.Sprint(now),
			By: author(d.ObjectMeta, `"f:replicas"`),
		}
	}
	return nil
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

// hopeless reports whether there are pods and none of them can get ready.
func (t *Target) hopeless(ctx context.Context, d *apps.Deployment) (bool, error) {
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
