package k8s

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// op is one operation of a JSON patch (RFC 6902).
type op struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// set makes a rule divide traffic as told, if it still is as it was read.
func (p pair) set(stable, canary int) []op {
	refs := fmt.Sprintf("/spec/rules/%d/backendRefs", p.rule)
	ops := []op{{"test", refs, p.raw}}
	if p.stable >= 0 {
		ops = append(ops, op{"add", fmt.Sprintf("%s/%d/weight", refs, p.stable), stable})
	}
	if p.canary >= 0 {
		ops = append(ops, op{"add", fmt.Sprintf("%s/%d/weight", refs, p.canary), canary})
	}
	return ops
}

// patch is the one write that makes the route divide traffic as told.
func (r *route) patch(pairs []pair, to traffic) []op {
	var ops []op
	for _, p := range pairs {
		switch {
		case p.header && to.header:
			ops = append(ops, p.set(0, 100)...)
		case !p.header && to.weight > 0:
			ops = append(ops, p.set(full-to.weight, to.weight)...)
		default:
			ops = append(ops, p.set(100, 0)...) // at rest as in git
		}
	}
	if r.Annotations == nil {
		return append(ops, op{"add", "/metadata/annotations", map[string]string{note: to.note()}})
	}
	return append(ops, op{"add", "/metadata/annotations/" + strings.ReplaceAll(note, "/", "~1"), to.note()})
}

// divide makes the route divide traffic as told. Weights that somebody else
// wrote are left alone: *ChangedError.
func (t *Target) divide(ctx context.Context, to traffic) error {
	to.by = t.id
	return t.rewrite(ctx, false, func(r *route) ([]op, error) {
		pairs, err := r.pairs(t.svc)
		if err != nil {
			return nil, err
		}
		now, ours := r.traffic(pairs)
		if ours && now == to && r.noted() == to {
			t.traffic = to // perhaps by a write of ours whose answer was lost
			return nil, nil
		}
		if ours && now == t.traffic {
			return r.patch(pairs, to), nil
		}
		e := &ChangedError{Object: "httproute " + t.svc.Name, Was: t.traffic.String(), Is: now.String(), By: author(r.ObjectMeta, `"f:rules"`)}
		switch {
		case !ours:
			e.Is = strings.TrimPrefix(describe(pairs), "divides traffic ")
		case now.by != t.id:
			e.By = "another rollout of sluice"
		}
		return nil, e
	}, to)
}

// clear takes all traffic off the canary, whatever the rules look like by now.
// With mark the route says whose rest it is, so that a rollout which has not
// moved anything yet, and is to end, does not begin.
func (t *Target) clear(ctx context.Context, mark bool) error {
	to := traffic{by: t.id}
	return t.rewrite(ctx, true, func(r *route) ([]op, error) {
		pairs, err := r.backends(t.svc)
		if err != nil {
			return nil, err
		}
		rest := true
		for _, p := range pairs {
			rest = rest && p.refs[p.canary].weight() == 0 && (p.stable < 0 || p.refs[p.stable].weight() > 0)
		}
		if rest && (!mark || r.noted() == to) {
			t.traffic = traffic{by: r.noted().by}
			return nil, nil
		}
		return r.patch(pairs, to), nil
	}, to)
}

// rewrite reads the route, asks for the patch that it needs and writes it, until
// nobody else wrote in between. No patch means that nothing is to do.
func (t *Target) rewrite(ctx context.Context, insist bool, edit func(*route) ([]op, error), to traffic) error {
	refused := "" // version of the object at which the patch was refused
	for {
		r, err := t.readRoute(ctx, insist)
		if err != nil {
			return err
		}
		ops, err := edit(r)
		if err != nil {
			return err
		}
		if ops == nil {
			return nil
		}
		if err = t.send(ctx, insist, ops); err == nil {
			t.traffic = to
			return nil
		}
		// A test that failed is answered with "invalid", a race that was lost with
		// "conflict": what is there now has to be looked at. The same answer to the
		// same object is a real refusal.
		again := apierrors.IsConflict(err) || apierrors.IsInvalid(err) && refused != r.ResourceVersion
		refused = r.ResourceVersion
		if !again || wait(ctx, poll) != nil {
			return fmt.Errorf("setting the weights of httproute %s: %w", t.svc.Name, err)
		}
	}
}

func (t *Target) send(ctx context.Context, insist bool, ops []op) error {
	body, err := json.Marshal(ops)
	if err != nil {
		return fmt.Errorf("encoding the patch: %w", err)
	}
	defer func() { t.moved = time.Now() }() // also if the answer is lost
	return t.api.Do(ctx, apiserver.Call{
		Verb: http.MethodPatch, Path: t.routePath(), Query: url.Values{"fieldManager": {apiserver.Manager}},
		Kind: "application/json-patch+json", Body: body, Insist: insist,
	})
}
