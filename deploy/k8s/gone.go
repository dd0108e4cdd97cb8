package k8s

import (
	"context"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// watching is how often the canary is looked at: one small object, and its pods
// only while none of them is ready.
const watching = 500 * time.Millisecond

// Gone is closed when there is no canary any more:
//
//   - its Deployment was deleted, or scaled to zero by somebody else;
//   - none of its pods is ready and every one has failed for good (evicted, out of
//     memory on the node), waits in CrashLoopBackOff, which the kubelet says from
//     the second end of a container on, or was restarted twice since Start.
//
// A pod that is merely not ready, that is replaced, or an API server that does
// not answer do not count. The canary is watched from the first call until Close.
func (t *Target) Gone() <-chan struct{} {
	t.look.Do(func() { go t.watch() })
	return t.gone
}

func (t *Target) watch() {
	for wait(t.life, watching) == nil {
		ctx, cancel := context.WithTimeout(t.life, lookLimit)
		lost := t.lost(ctx)
		cancel()
		if lost {
			close(t.gone)
			return
		}
	}
}

// lost is one look.
func (t *Target) lost(ctx context.Context) bool {
	d, err := t.deployment(ctx, t.svc.canary(), false)
	if err != nil {
		return apierrors.IsNotFound(err) && !apiserver.UnknownKind(err)
	}
	if d.DeletionTimestamp != nil || replicas(d) == 0 {
		return true
	}
	if d.Status.ReadyReplicas > 0 {
		return false
	}
	pods, err := t.pods(ctx, "canary")
	if err != nil {
		return false
	}
	any := false
	for _, p := range pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		if !t.crashed(p) {
			return false
		}
		any = true
	}
	return any
}

// crashed reports whether a pod will not serve again.
func (t *Target) crashed(p core.Pod) bool {
	if p.Status.Phase == core.PodFailed {
		return true
	}
	for _, s := range p.Status.ContainerStatuses {
		if s.Name != t.svc.Name {
			continue
		}
		looping := s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
		return looping || s.RestartCount-t.restarts[p.Name] >= 2
	}
	return false
}

// restarts counts those of a pod's container.
func restarts(p core.Pod, container string) int32 {
	for _, s := range p.Status.ContainerStatuses {
		if s.Name == container {
			return s.RestartCount
		}
	}
	return 0
}
