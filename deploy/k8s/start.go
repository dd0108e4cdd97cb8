package k8s

import (
	"context"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// settling is how long a data plane may take to obey a weight that was written:
// a gateway was measured at up to a second, kube-proxy at less.
const settling = time.Second

// Start brings the canary up and waits until its pods are ready and in the
// endpoint slices. With a route these are all that its first weight needs, and it
// gets no traffic yet; what a killed rollout left on it is taken off first.
// Without one it is a single pod, because that gets its share at once: the others
// come with Prepare, when somebody watches. The context is that of the whole
// rollout: Prepare and Shift end with it too. Errors: *NotReadyError,
// *ChangedError; after either call Settle.
func (t *Target) Start(ctx context.Context, weight int) error {
	t.rollout = ctx
	if t.svc.Route {
		calm, cancel := context.WithTimeout(ctx, apiserver.Patience)
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
	if !t.svc.Route {
		n = min(n, 1)
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
