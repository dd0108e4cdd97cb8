package k8s

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
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

// backends finds the rules in which the canary is.
func (r *route) backends(s Service) ([]pair, error) {
	var found []pair
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
		p.header = s.Header && i == 0 && len(rule.Matches) > 0 && len(rule.Matches[0].Headers) > 0
		if p.canary >= 0 {
			found = append(found, p)
		}
	}
	return found, nil
}

// pairs is backends that insists on rules as they were rendered: both versions
// and nobody else, the one with the header first. Rules without the canary are
// the user's own.
func (r *route) pairs(s Service) ([]pair, error) {
	found, err := r.backends(s)
	if err != nil {
		return nil, err
	}
	object, weighted := "httproute "+s.Name, false
	for _, p := range found {
		if p.stable < 0 || len(p.refs) != 2 {
			return nil, &UnfitError{object, fmt.Sprintf("has a rule (number %d) with %s but not exactly the two backends %s and %s", p.rule+1, s.canary(), s.stable(), s.canary())}
		}
		weighted = weighted || !p.header
	}
	switch {
	case !weighted:
		return nil, &UnfitError{object, fmt.Sprintf("has no rule with the backends %s and %s", s.stable(), s.canary())}
	case s.Header && !found[0].header:
		return nil, &UnfitError{object, "has no header match in its first rule"}
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

// readRoute reads the HTTPRoute. Errors: *AbsentError if it or its kind is not
// there, *apiserver.ForeignError.
func (t *Target) readRoute(ctx context.Context, insist bool) (*route, error) {
	var r route
	object := "httproute " + t.svc.Name
	err := t.api.Do(ctx, apiserver.Call{Verb: http.MethodGet, Path: t.routePath(), Into: &r, Insist: insist})
	switch {
	case apiserver.UnknownKind(err):
		return nil, &AbsentError{Namespace: t.svc.Namespace, Kind: "HTTPRoute (" + routeGroup + "/v1)"}
	case apierrors.IsNotFound(err):
		return nil, &AbsentError{Namespace: t.svc.Namespace, Objects: []string{object}}
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", object, err)
	}
	return &r, t.owned(object, r.ObjectMeta)
}

func (t *Target) routePath() string {
	return fmt.Sprintf("/apis/%s/v1/namespaces/%s/httproutes/%s", routeGroup, t.svc.Namespace, t.svc.Name)
}

// author is who last wrote a field, as far as the API server noted it.
func author(m metav1.ObjectMeta, field string) string {
	var last metav1.ManagedFieldsEntry
	for _, e := range m.ManagedFields {
		if e.FieldsV1 == nil || e.Subresource == "status" {
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

// owns reports whether the named manager is among those who wrote a field last:
// whoever changes a field becomes its only owner.
func owns(m metav1.ObjectMeta, manager, field string) bool {
	for _, e := range m.ManagedFields {
		if e.Manager == manager && e.FieldsV1 != nil && e.Subresource != "status" {
			if raw, err := e.FieldsV1.MarshalJSON(); err == nil && strings.Contains(string(raw), field) {
				return true
			}
		}
	}
	return false
}

// notThere reports whether err says that an object does not exist.
func notThere(err error) bool {
	var absent *AbsentError
	return apierrors.IsNotFound(err) || errors.As(err, &absent)
}
