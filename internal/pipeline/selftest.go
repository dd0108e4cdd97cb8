package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/source"
)

// selfTestRequests is how many requests the probe has to count.
const selfTestRequests = 5

// counts asks a version a few requests on its own port, where no client is, and
// compares what the probe counted.
func (r *Rollout) counts(ctx context.Context, arm *local.Arm) (string, error) {
	group, err := arm.Cgroup.ID()
	if err != nil {
		return "", err
	}
	// A TLS server in Go answers HTTP too, with a complaint: that would count.
	if arm.SpeaksTLS(ctx) {
		return "", fmt.Errorf("%s speaks TLS, which the probe cannot read: let it speak in the clear behind a proxy that ends TLS", arm.Version)
	}
	before, err := r.probe.Snapshot()
	if err != nil {
		return "", err
	}
	answered := 0
	for range selfTestRequests {
		if arm.Ask(ctx) == nil {
			answered++
		}
	}
	after, err := r.probe.Snapshot()
	if err != nil {
		return "", err
	}
	counted := source.Sum(after, group, arm.Own.Port()).Requests - source.Sum(before, group, arm.Own.Port()).Requests
	switch {
	case answered == 0:
		return "", fmt.Errorf("the service answers neither HTTP/1.1 nor HTTP/2 in the clear on port %d: the probe cannot measure it", arm.Own.Port())
	case counted != uint64(answered):
		return "", fmt.Errorf("self-test of the probe: %d requests were answered, it counted %d", answered, counted)
	}
	return fmt.Sprintf("self-test %d/%d requests counted", counted, answered), nil
}
