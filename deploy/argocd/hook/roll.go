package hook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/source"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// roll starts the canary and runs the plan. An error means that no verdict could
// be come to; the traffic may then still be on the canary.
func (h *hook) roll(ctx context.Context, plan canary.Plan, object string) (canary.Result, error) {
	if err := h.target.Start(ctx, plan.Steps[0].Weight); err != nil {
		if r, ok := notReady(err, h.now()); ok && ctx.Err() == nil {
			return r, h.target.Isolate()
		}
		return canary.Result{}, err
	}
	h.happened("the canary is ready")
	src, err := h.source(ctx, object)
	if err != nil {
		if ctx.Err() != nil || temporary(err) {
			return canary.Result{}, err
		}
		return ended(gate.Invalid, canary.None, fmt.Sprintf("measuring: %v", err)), h.target.Isolate()
	}
	defer src.Close()
	if h.kubernetes().Header {
		r, stop, err := h.headerStep(ctx, src, plan.Steps[0].Min)
		if err != nil || stop {
			if err = errors.Join(err, h.target.Isolate()); err == nil {
				r.Timeline.Traffic = h.now()
			}
			return r, err
		}
		if err := h.target.Header(ctx, false); err != nil {
			return canary.Result{}, err
		}
		if _, err := src.Observe(ctx); err != nil { // in it are the last requests that came by the header
			return canary.Result{}, err
		}
	}
	g, err := gate.New(verdict.Gate(h.Config.Deploy.Gate))
	if err != nil {
		return canary.Result{}, err
	}
	return canary.Rollout{Plan: plan, Target: h.target, Source: src, Judge: g, Report: h.look, Now: h.now}.Run(ctx)
}

func (h *hook) look(l canary.Look) { h.say("%s", verdict.Line(l)) }

// headerStep sends only the requests with the header to the canary, for as long
// as the first step lasts at least. They are not like everybody's, so they can
// fail a release and never pass it, and the gate proper begins without them.
func (h *hook) headerStep(ctx context.Context, src canary.Source, least time.Duration) (r canary.Result, stop bool, err error) {
	g, err := gate.New(verdict.Gate(h.Config.Deploy.Gate))
	if err != nil {
		return r, true, err
	}
	if err := h.target.Header(ctx, true); err != nil {
		return r, true, err
	}
	h.happened("requests with %s go to the canary", h.Config.Deploy.Kubernetes.Header)
	least = max(least, 2*h.Config.Deploy.Canary.Block.Std()) // nothing is passed over without a look
	gone := h.target.Gone()
	for end := h.now().Add(least); h.now().Before(end); {
		obs, err := src.Observe(ctx)
		if ctx.Err() != nil {
			return r, true, context.Cause(ctx)
		}
		select {
		case <-gone:
			bad := ended(gate.Fail, canary.Crash, "the canary's process ended")
			bad.Looks, bad.Timeline = r.Looks, canary.Timeline{Verdict: h.now()}
			return bad, true, nil
		default:
		}
		if err != nil && temporary(err) {
			return r, true, err
		}
		if err != nil {
			return ended(gate.Invalid, canary.None, fmt.Sprintf("measuring: %v", err)), true, nil
		}
		v := g.Observe(obs.Block)
		look := canary.Look{Block: obs.Block, Held: obs.Held, Outcome: v.Outcome, Odds: v.Odds}
		r.Looks = append(r.Looks, look)
		h.look(look)
		if v.Outcome == gate.Fail || v.Outcome == gate.Invalid {
			return h.badByHeader(r.Looks, v, obs), true, nil
		}
	}
	return r, false, nil
}

// badByHeader is how a release ends that the requests with the header have failed.
func (h *hook) badByHeader(looks []canary.Look, v gate.Verdict, obs canary.Observation) canary.Result {
	trigger := canary.None
	switch {
	case v.Outcome == gate.Fail:
		trigger = canary.SLO
	case obs.Mismatch:
		trigger = canary.HashMismatch
	}
	bad := ended(v.Outcome, trigger, fmt.Sprintf("with %s: %s", h.Config.Deploy.Kubernetes.Header, v.Reason))
	bad.Looks, bad.Timeline = looks, canary.Timeline{Breach: obs.FirstRequest, Evidence: obs.End, Verdict: h.now()}
	return bad
}

// source measures both versions on all nodes where they run.
func (h *hook) source(ctx context.Context, object string) (*source.Nodes, error) {
	p := h.Config.Deploy.Kubernetes.Probe
	return source.NewNodes(ctx, fleet{h.target, h.rest, p.Namespace, p.Port}, source.NodesConfig{
		Block: h.Config.Deploy.Canary.Block.Std(), Grace: p.Grace.Std(), Object: bpf.Digest(object),
	})
}

// fleet is where the two versions run and who measures there.
type fleet struct {
	target    *k8s.Target
	rest      *rest.Config
	namespace string
	port      int
}

// Addresses lists the pods of both versions.
func (f fleet) Addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error) {
	return f.target.Addresses(ctx)
}

// Nodes lists the daemons of the nodes on which they run. A node without a
// daemon is one that does not answer.
func (f fleet) Nodes(ctx context.Context) ([]source.Node, error) {
	names, err := f.target.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	probes, err := k8s.Probes(ctx, f.rest, f.namespace, f.port)
	if err != nil {
		return nil, err
	}
	list := make([]source.Node, len(names))
	for i, name := range names {
		list[i].Name = name
		for _, p := range probes {
			if p.Node == name {
				list[i].Target = p.Target
			}
		}
	}
	return list, nil
}
