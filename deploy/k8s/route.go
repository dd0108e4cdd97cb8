package k8s

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	full       = 10000 // canary.Full: all new connections
	routeGroup = "gateway.networking.k8s.io"
	// note is the annotation in which every write of the weights says what was
	// written, and by which target: what is found later is compared with it.
	note = "sluice.dev/traffic"
)

// route is what is read of an HTTPRoute.
type route struct {
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Rules []rule `json:"rules"`
	} `json:"spec"`
	Status struct {
		Parents []struct {
			Controller string             `json:"controllerName"`
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"parents"`
	} `json:"status"`
}

type rule struct {
	Matches []struct {
		Headers []json.RawMessage `json:"headers"`
	} `json:"matches"`
	BackendRefs json.RawMessage `json:"backendRefs"`
}

// backend is one of the two versions in a rule.
type backend struct {
	Name   string `json:"name"`
	Weight *int   `json:"weight"`
}

func (b backend) weight() int {
	if b.Weight == nil {
		return 1 // the default of the Gateway API
	}
	return *b.Weight
}

// pair is a rule that divides traffic between the two versions.
type pair struct {
	rule           int // index
	stable, canary int // indexes of the backends
	refs           []backend
	raw            json.RawMessage
	header         bool // the rule that matches a header
}

// traffic is how a route divides it.
type traffic struct {
	weight int    // of the canary, in ten-thousandths
	header bool   // what the header rule matches goes to the canary
	by     string // id of the target that wrote it; empty if none did
}

func (t traffic) rest() bool { return t.weight == 0 && !t.header }

func (t traffic) String() string {
	s := fmt.Sprintf("weight %s %%", strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", float64(t.weight)/100), "0"), "."))
	if t.header {
		s += " and the header rule"
	}
	return s
}

// note is what the annotation holds, a JSON text.
func (t traffic) note() string {
	raw, _ := json.Marshal(map[string]any{"weight": t.weight, "header": t.header, "by": t.by}) // of these types it never fails
	return string(raw)
}

// noted is what the annotation says, at rest if there is none.
func (r *route) noted() traffic {
	var n struct {
		Weight int    `json:"weight"`
		Header bool   `json:"header"`
		By     string `json:"by"`
	}
	_ = json.Unmarshal([]byte(r.Annotations[note]), &n)
	return traffic{n.Weight, n.Header, n.By}
}

// pairs finds the rules that divide traffic between the two versions. Rules
// without the canary are the user's own.
func (r *route) pairs(s Service) ([]pair, error) {
	var found []pair
	weighted := false
	for i, rule := range r.Spec.Rules {
		p := pair{rule: i, stable: -1, canary: -1, raw: rule.BackendRefs}
		if len(rule.BackendRefs) > 0 {
			if err := json.Unmarshal(rule.BackendRefs, &p.refs); err != nil {
				return nil, fmt.Errorf("reading rule %d of httproute %s: %w", i+1, s.Name, err)
			}
		}
		for j, b := range p.refs {
			switch b.Name {
			case s.stable():
				p.stable = j
			case s.canary():
				p.canary = j
			}
		}
		if p.canary < 0 {
			continue
		}
		if p.stable < 0 || len(p.refs) != 2 {
			return nil, &UnfitError{"httproute " + s.Name, fmt.Sprintf("has a rule (number %d) with %s but not exactly the two backends %s and %s", i+1, s.canary(), s.stable(), s.canary())}
		}
		p.header = s.Header && i == 0 && len(rule.Matches) > 0 && len(rule.Matches[0].Headers) > 0
		weighted = weighted || !p.header
		found = append(found, p)
	}
	switch {
	case !weighted:
		return nil, &UnfitError{"httproute " + s.Name, fmt.Sprintf("has no rule with the backends %s and %s", s.stable(), s.canary())}
	case s.Header && !found[0].header:
		return nil, &UnfitError{"httproute " + s.Name, "has no header match in its first rule"}
	}
	return found, nil
}

// traffic is how the rules divide it; ours is false if no target of ours would
// write that.
func (r *route) traffic(pairs []pair) (now traffic, ours bool) {
	now, ours = traffic{by: r.noted().by, weight: -1}, true
	for _, p := range pairs {
		s, c := p.refs[p.stable].weight(), p.refs[p.canary].weight()
		if p.header {
			now.header = c > 0
			ours = ours && (s > 0) != (c > 0)
			continue
		}
		w := c
		if c == 0 && s == 0 || c > 0 && s+c != full || now.weight >= 0 && now.weight != w {
			ours = false
		}
		now.weight = w
	}
	return now, ours
}

// describe says how the rules divide traffic.
func describe(pairs []pair) string {
	var parts []string
	for _, p := range pairs {
		parts = append(parts, fmt.Sprintf("%d:%d", p.refs[p.stable].weight(), p.refs[p.canary].weight()))
	}
	return "divides traffic stable:canary " + strings.Join(parts, " and ")
}

// patch is the one write that makes the route divide traffic as told. It fails
// if a rule is not any more as it was read.
func (r *route) patch(pairs []pair, to traffic) []byte {
	type op struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var ops []op
	for _, p := range pairs {
		refs := fmt.Sprintf("/spec/rules/%d/backendRefs", p.rule)
		ops = append(ops, op{"test", refs, p.raw})
		s, c := 100, 0 // at rest as in git
		switch {
		case p.header && to.header:
			s, c = 0, 100
		case !p.header && to.weight > 0:
			s, c = full-to.weight, to.weight
		}
		ops = append(ops,
			op{"add", fmt.Sprintf("%s/%d/weight", refs, p.stable), s},
			op{"add", fmt.Sprintf("%s/%d/weight", refs, p.canary), c})
	}
	if r.Annotations == nil {
		ops = append(ops, op{"add", "/metadata/annotations", map[string]string{note: to.note()}})
	} else {
		ops = append(ops, op{"add", "/metadata/annotations/" + strings.ReplaceAll(note, "/", "~1"), to.note()})
	}
	raw, _ := json.Marshal(ops) // raw is JSON that was read: it never fails
	return raw
}

// readRoute reads the HTTPRoute and its rules. Errors: *AbsentError if the
// cluster does not know the kind, *ForeignError, *UnfitError.
func (t *Target) readRoute(ctx context.Context, insist bool) (*route, []pair, error) {
	var r route
	err := t.api.do(ctx, call{verb: http.MethodGet, path: t.routePath(), into: &r, insist: insist})
	if unknownKind(err) {
		return nil, nil, &AbsentError{Namespace: t.svc.Namespace, Kind: "HTTPRoute (" + routeGroup + "/v1)"}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading httproute %s: %w", t.svc.Name, err)
	}
	if err := t.owned("httproute "+t.svc.Name, r.ObjectMeta); err != nil {
		return nil, nil, err
	}
	pairs, err := r.pairs(t.svc)
	return &r, pairs, err
}

func (t *Target) routePath() string {
	return fmt.Sprintf("/apis/%s/v1/namespaces/%s/httproutes/%s", routeGroup, t.svc.Namespace, t.svc.Name)
}

// divide makes the route divide traffic as told and says whether that was a
// change. Unless force is set, weights that somebody else wrote are left alone:
// *ChangedError.
func (t *Target) divide(ctx context.Context, to traffic, force bool) (changed bool, err error) {
	to.by = t.id
	refused := "" // version of the object at which the patch was refused
	for {
		r, pairs, err := t.readRoute(ctx, force)
		if err != nil {
			return changed, err
		}
		now, ours := r.traffic(pairs)
		if now == to && ours {
			// Already so, perhaps by a write of ours whose answer was lost.
			t.traffic = to
			return changed, nil
		}
		if force && ours && now.rest() && to.rest() {
			t.traffic = now
			return changed, nil
		}
		if !force && (!ours || now != t.traffic) {
			is := now.String()
			if !ours {
				is = strings.TrimPrefix(describe(pairs), "divides traffic ")
			}
			return changed, &ChangedError{Object: "httproute " + t.svc.Name, Was: t.traffic.String(), Is: is, By: author(r.ObjectMeta, `"f:rules"`)}
		}
		err = t.api.do(ctx, call{
			verb: http.MethodPatch, path: t.routePath(), query: url.Values{"fieldManager": {Manager}},
			kind: "application/json-patch+json", body: r.patch(pairs, to), insist: force,
		})
		if err == nil {
			t.traffic = to
			return true, nil
		}
		// A test that failed is answered with "invalid", a race that was lost with
		// "conflict": what is there now has to be looked at. The same answer to the
		// same object is a real refusal.
		again := apierrors.IsConflict(err) || apierrors.IsInvalid(err) && refused != r.ResourceVersion
		if !again || ctx.Err() != nil {
			return changed, fmt.Errorf("setting the weights of httproute %s: %w", t.svc.Name, err)
		}
		refused = r.ResourceVersion
		if err := wait(ctx, poll); err != nil {
			return changed, fmt.Errorf("setting the weights of httproute %s: %w", t.svc.Name, err)
		}
	}
}

// author is who last wrote a field, as far as the API server noted it.
func author(m metav1.ObjectMeta, field string) string {
	var last metav1.ManagedFieldsEntry
	for _, e := range m.ManagedFields {
		if e.FieldsV1 == nil {
			continue
		}
		if raw, err := e.FieldsV1.MarshalJSON(); err != nil || !strings.Contains(string(raw), field) {
			continue
		}
		if last.Manager == "" || e.Time != nil && (last.Time == nil || !e.Time.Before(last.Time)) {
			last = e
		}
	}
	return cmp.Or(last.Manager, "an unknown writer")
}

// notThere reports whether err says that an object does not exist.
func notThere(err error) bool {
	var absent *AbsentError
	return apierrors.IsNotFound(err) || errors.As(err, &absent)
}
