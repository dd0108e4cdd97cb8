package hook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/wire"
)

// UntrustedError says that a daemon does not measure with what the release names.
type UntrustedError struct{ Node, Why string }

func (e *UntrustedError) Error() string { return fmt.Sprintf("the probe on node %s %s", e.Node, e.Why) }

// SilentError says that a daemon cannot be asked, which says nothing of the
// release.
type SilentError struct {
	Node, Why string
	Namespace string // of the daemons
}

func (e *SilentError) Error() string { return fmt.Sprintf("the probe on node %s %s", e.Node, e.Why) }

// Temporary is always true: a DaemonSet that is rolled out, or a node that is
// new, takes a while.
func (e *SilentError) Temporary() bool { return true }

// Hint says where to look.
func (e *SilentError) Hint() string {
	return fmt.Sprintf("kubectl -n %s get pods -l app.kubernetes.io/name=sluice-probe -o wide; a network policy has to let the hooks in", e.Namespace)
}

// checkProbes asks the daemons of all nodes where the service runs whether they
// measure with this object. What may be better in a moment is asked again for as
// long as deploy.kubernetes.probe.grace: after that it is an *UntrustedError or a
// *SilentError. What the kernel runs instead of what was signed is not asked twice.
func (h *hook) checkProbes(ctx context.Context, object string) error {
	for end := h.now().Add(h.Config.Deploy.Kubernetes.Probe.Grace.Std()); ; {
		final, err := h.lookAtProbes(ctx, object)
		if err == nil || final || !h.now().Before(end) {
			return err
		}
		if sleep(ctx, 500*time.Millisecond) != nil {
			return err
		}
	}
}

// lookAtProbes asks all daemons at once. With final there is no point in asking
// again.
func (h *hook) lookAtProbes(ctx context.Context, object string) (final bool, err error) {
	p := h.Config.Deploy.Kubernetes.Probe
	probes, err := k8s.Probes(ctx, h.rest, p.Namespace, p.Port)
	if err != nil {
		return true, err
	}
	nodes, err := h.target.Nodes(ctx)
	if err != nil {
		return true, err
	}
	const atOnce = 64
	var asked errgroup.Group
	asked.SetLimit(atOnce)
	finals, errs := make([]bool, len(nodes)), make([]error, len(nodes))
	for i, node := range nodes {
		asked.Go(func() error {
			at := slices.IndexFunc(probes, func(p k8s.Probe) bool { return p.Node == node })
			if at < 0 {
				errs[i] = &SilentError{Node: node, Why: "has no pod (DaemonSet sluice-probe)", Namespace: p.Namespace}
			} else {
				finals[i], errs[i] = ask(ctx, probes[at], object, p.Namespace)
			}
			return nil
		})
	}
	_ = asked.Wait() // they keep their errors
	if i := slices.Index(finals, true); i >= 0 {
		return true, errs[i]
	}
	return false, cmp.Or(errs...)
}

// ask looks at one daemon.
func ask(ctx context.Context, p k8s.Probe, object, namespace string) (final bool, err error) {
	silent := func(why string) error { return &SilentError{Node: p.Node, Why: why, Namespace: namespace} }
	if !p.Ready || p.Target == "" {
		return false, silent("is not ready")
	}
	c, err := wire.Dial(p.Target, wire.Config{})
	if err != nil {
		return true, silent(err.Error())
	}
	defer c.Close()
	s, err := c.Snapshot(ctx)
	switch {
	case err != nil:
		return false, silent(fmt.Sprintf("does not answer: %v", err))
	case s.Mismatch != "":
		return true, &UntrustedError{Node: p.Node, Why: "is not the one that was signed: " + s.Mismatch}
	case object != "" && string(s.Loaded.Digest) != object:
		return false, &UntrustedError{Node: p.Node, Why: fmt.Sprintf("has loaded object %.19s, the release names %.19s", s.Loaded.Digest, object)}
	}
	return false, nil
}
