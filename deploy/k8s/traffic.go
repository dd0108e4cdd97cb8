package k8s

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

const (
	isolateLimit = time.Minute // for the one call that must work
	drainLimit   = time.Minute // for endpoints to go after the canary was scaled to zero; the API server may restart meanwhile
)

// Shift gives the canary a share of the new connections, in ten-thousandths.
// More pods are ready before they get more traffic, and traffic is off before
// there are fewer. All of it (canary.Full) leaves the weight of the last step:
// the stable Deployment is promoted by the next wave of the sync. It waits for
// pods that lack, while the canary keeps what it has and nobody looks at it; not
// so after Prepare, which is the way to wait for them. It gives up when the
// context of Start ends. Errors: *NotReadyError, and *ChangedError if somebody
// else moved traffic meanwhile.
func (t *Target) Shift(weight int) error {
	if weight >= full {
		return nil
	}
	ctx, cancel := t.bounded(t.svc.ready() + apiserver.Patience)
	defer cancel()
	if t.prepared != weight {
		err := until(ctx, func() (bool, error) { return t.prepare(ctx, weight) })
		t.growth = nil
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("waiting for the pods of %s: %w", t.svc.canary(), err)
		}
		if err != nil {
			return err
		}
	}
	t.prepared = 0
	n, err := t.need(ctx, weight)
	if err != nil {
		return err
	}
	if t.svc.Route {
		if err := t.divide(ctx, traffic{weight: weight, header: t.traffic.header}); err != nil {
			return err
		}
	}
	switch {
	case n >= t.replicas:
		return nil
	case t.svc.Route:
		if err := t.rested(ctx); err != nil {
			return err
		}
		return t.scale(ctx, max(n, 1), false) // the pods stay while there is a rollout
	case n == 0:
		return t.empty(ctx, false)
	}
	return t.scale(ctx, n, false)
}

// Header sends what the header rule of the route matches to the canary, or back
// to the stable version.
func (t *Target) Header(ctx context.Context, on bool) error {
	if !t.svc.Route || !t.svc.Header {
		if !on {
			return nil
		}
		return errors.New("sending a header to the canary: the route has no header rule")
	}
	ctx, cancel := context.WithTimeout(ctx, apiserver.Patience)
	defer cancel()
	return t.divide(ctx, traffic{weight: t.traffic.weight, header: on})
}

// rested waits until the data plane has obeyed the last write of the weights.
func (t *Target) rested(ctx context.Context) error {
	return wait(ctx, time.Until(t.moved.Add(settling)))
}

// Isolate keeps every new connection away from the canary, whatever others wrote
// meanwhile. With a route that is one write of its weights, which a gateway obeys
// within a second; without one the
// canary is scaled to zero, and Isolate returns when its pods are out of the
// endpoint slices. What is gone altogether gets no traffic and is no error. It
// tries for up to a minute.
func (t *Target) Isolate() error {
	ctx, cancel := context.WithTimeout(context.Background(), isolateLimit)
	defer cancel()
	return t.isolate(ctx, false)
}

func (t *Target) isolate(ctx context.Context, mark bool) error {
	t.growth, t.prepared = nil, 0
	var err error
	if t.svc.Route {
		err = t.clear(ctx, mark)
	} else {
		err = t.empty(ctx, true)
	}
	if notThere(err) {
		return nil
	}
	return err
}

// empty scales the canary to zero and waits until no new connection can reach
// it.
func (t *Target) empty(ctx context.Context, force bool) error {
	canary := t.addresses(ctx) // before the first slice forgets them
	if err := t.scale(ctx, 0, force); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for {
		left, err := t.served(ctx, canary)
		if err == nil && left == 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%d of its pods are still in the endpoint slices", left)
		}
		if wait(ctx, poll) != nil {
			return fmt.Errorf("deployment %s is scaled to 0, but traffic may still reach it: %w", t.svc.canary(), err)
		}
	}
}

// addresses are those of the canary's pods, as far as one look at its slice and
// one at its pods tell: what is left by an earlier try is in one of them.
func (t *Target) addresses(ctx context.Context) map[netip.Addr]bool {
	known := map[netip.Addr]bool{}
	ctx, cancel := context.WithTimeout(ctx, time.Second) // it must not wait for this
	defer cancel()
	_, _ = t.served(ctx, known) // asked again as long as something is left
	pods, _ := t.pods(ctx, "canary")
	for _, p := range pods {
		if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && p.Status.Phase != core.PodFailed && p.Status.Phase != core.PodSucceeded {
			known[a] = true
		}
	}
	return known
}

// served counts the canary's pods that get new connections. Their addresses are
// added to those that are known: the slices of the Services change one by one.
func (t *Target) served(ctx context.Context, canary map[netip.Addr]bool) (int, error) {
	found, err := t.endpoints(ctx, t.svc.Name, t.svc.canary())
	if err != nil {
		return 0, err
	}
	for _, e := range found[t.svc.canary()] {
		canary[e.addr.Addr()] = true
	}
	left := map[netip.Addr]bool{}
	for _, list := range found {
		for _, e := range list {
			if e.ready && canary[e.addr.Addr()] {
				left[e.addr.Addr()] = true
			}
		}
	}
	return len(left), nil
}

// Settle puts everything to rest: all traffic to the stable version, the header
// rule too, the canary scaled to zero. It may be repeated, needs nothing but
// [New] and works whatever a killed process left; weights that somebody else
// wrote go as well, objects that somebody else owns stay (*apiserver.ForeignError).
func (t *Target) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, isolateLimit)
	defer cancel()
	var routeErr error
	if t.svc.Route {
		if routeErr = t.isolate(ctx, true); routeErr == nil {
			routeErr = t.rested(ctx)
		}
		var foreign *apiserver.ForeignError
		if routeErr != nil && !errors.As(routeErr, &foreign) {
			return routeErr // its pods are needed as long as they get traffic
		}
	}
	err := t.empty(ctx, true)
	if notThere(err) {
		err = nil
	}
	return errors.Join(routeErr, err)
}
