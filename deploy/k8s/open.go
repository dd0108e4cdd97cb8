package k8s

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// Labels of everything that belongs to a service, and of its pods.
const (
	managedLabel = "app.kubernetes.io/managed-by"
	partLabel    = "app.kubernetes.io/part-of"
	nameLabel    = "app.kubernetes.io/name"
	trackLabel   = "sluice.dev/track"
)

// check is what Open does: what may be done, what is there, whose it is, whether
// it fits, whether it is at rest and serves.
func (t *Target) check(ctx context.Context) error {
	if err := t.api.CheckAccess(ctx, t.svc.Namespace, t.svc.Permissions()); err != nil {
		return err
	}
	stable, canary, err := t.checkObjects(ctx)
	if err != nil {
		return err
	}
	t.images = [2]string{Image(stable, t.svc.Name), Image(canary, t.svc.Name)}
	if err := t.checkReplicas(canary); err != nil {
		return err
	}
	if t.svc.Route {
		if err := t.checkRoute(ctx); err != nil {
			return err
		}
	}
	found, err := t.endpoints(ctx, t.svc.stable())
	if err != nil {
		return err
	}
	if ready(found[t.svc.stable()]) == 0 {
		return &NoEndpointsError{Service: t.svc.stable(), Why: t.why(ctx, stable, "stable")}
	}
	return nil
}

// checkObjects reads Deployments and Services; all that are missing are named
// together.
func (t *Target) checkObjects(ctx context.Context) (stable, canary *apps.Deployment, err error) {
	absent := &AbsentError{Namespace: t.svc.Namespace}
	read := func(kind, name, path string, into any) error {
		err := t.api.Get(ctx, path, into)
		if apierrors.IsNotFound(err) {
			absent.Objects = append(absent.Objects, kind+" "+name)
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s %s: %w", kind, name, err)
		}
		return nil
	}
	stable, canary = &apps.Deployment{}, &apps.Deployment{}
	if err := read("deployment", t.svc.stable(), t.deploymentPath(t.svc.stable()), stable); err != nil {
		return nil, nil, err
	}
	absent.First = len(absent.Objects) > 0
	if err := read("deployment", t.svc.canary(), t.deploymentPath(t.svc.canary()), canary); err != nil {
		return nil, nil, err
	}
	services := map[string]*core.Service{t.svc.stable(): {}, t.svc.canary(): {}}
	if !t.svc.Route { // with one clients come through the gateway
		services[t.svc.Name] = &core.Service{}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if err := read("service", name, t.corePath("services/"+name), services[name]); err != nil {
			return nil, nil, err
		}
	}
	if len(absent.Objects) > 0 {
		return nil, nil, absent
	}
	for _, d := range []*apps.Deployment{stable, canary} {
		if err := t.checkDeployment(d); err != nil {
			return nil, nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if err := t.checkService(services[name]); err != nil {
			return nil, nil, err
		}
	}
	return stable, canary, nil
}

// owned refuses an object without our labels.
func (t *Target) owned(object string, m metav1.ObjectMeta) error {
	for _, want := range [][2]string{{managedLabel, apiserver.Manager}, {partLabel, t.svc.Name}} {
		if m.Labels[want[0]] == want[1] {
			continue
		}
		owner := m.Labels[managedLabel]
		switch {
		case len(m.OwnerReferences) > 0:
			owner = strings.ToLower(m.OwnerReferences[0].Kind) + " " + m.OwnerReferences[0].Name
		case owner == "":
			owner = author(m, `"f:spec"`)
		case owner == apiserver.Manager:
			owner += " for " + cmp.Or(m.Labels[partLabel], "nobody")
		}
		return &apiserver.ForeignError{Object: object, Owner: owner, Lacks: want[0] + "=" + want[1]}
	}
	return nil
}

// checkDeployment looks whether pods of the Deployment can be told from those of
// the other.
func (t *Target) checkDeployment(d *apps.Deployment) error {
	object := "deployment " + d.Name
	if err := t.owned(object, d.ObjectMeta); err != nil {
		return err
	}
	track := "stable"
	if d.Name == t.svc.canary() {
		track = "canary"
	}
	labels := d.Spec.Template.Labels
	if labels[nameLabel] != t.svc.Name || labels[trackLabel] != track {
		return &UnfitError{object, fmt.Sprintf("makes pods without the labels %s=%s and %s=%s", nameLabel, t.svc.Name, trackLabel, track)}
	}
	if d.Spec.Selector == nil || d.Spec.Selector.MatchLabels[trackLabel] != track {
		return &UnfitError{object, fmt.Sprintf("does not select its pods by %s=%s", trackLabel, track)}
	}
	if Image(d, t.svc.Name) == "" {
		return &UnfitError{object, "has no container named " + t.svc.Name}
	}
	return nil
}

// checkService looks whether the Service selects the pods that it is meant for.
func (t *Target) checkService(s *core.Service) error {
	object := "service " + s.Name
	if err := t.owned(object, s.ObjectMeta); err != nil {
		return err
	}
	want := map[string]string{t.svc.Name: "", t.svc.stable(): "stable", t.svc.canary(): "canary"}[s.Name]
	if s.Spec.Selector[nameLabel] != t.svc.Name {
		return &UnfitError{object, fmt.Sprintf("does not select pods by %s=%s", nameLabel, t.svc.Name)}
	}
	if got := s.Spec.Selector[trackLabel]; got != want {
		return &UnfitError{object, fmt.Sprintf("selects pods with %s=%q, not %q", trackLabel, got, want)}
	}
	for _, p := range s.Spec.Ports {
		if (p.Name == portName || len(s.Spec.Ports) == 1) && (t.svc.Port == 0 || int(p.Port) == t.svc.Port) {
			return nil
		}
	}
	return &UnfitError{object, fmt.Sprintf("has no port %d named %s", t.svc.Port, portName)}
}

// checkReplicas accepts a canary at zero, or scaled by a rollout of ours that was
// killed.
func (t *Target) checkReplicas(d *apps.Deployment) error {
	t.replicas = replicas(d)
	if field := `"f:replicas"`; t.replicas != 0 && !owns(d.ObjectMeta, apiserver.Manager, field) {
		return &WeightsError{Object: "deployment " + d.Name, What: fmt.Sprintf("has %d replicas", t.replicas), By: author(d.ObjectMeta, field)}
	}
	return nil
}

// checkRoute accepts a route at rest, or as a rollout of ours left it that was
// killed.
func (t *Target) checkRoute(ctx context.Context) error {
	r, err := t.readRoute(ctx, false)
	if err != nil {
		return err
	}
	pairs, err := r.pairs(t.svc)
	if err != nil {
		return err
	}
	for _, p := range r.Status.Parents {
		for _, c := range p.Conditions {
			if c.Type == "Accepted" && c.Status == metav1.ConditionFalse && c.ObservedGeneration == r.Generation {
				return &UnfitError{"httproute " + t.svc.Name, oneLine(fmt.Sprintf("is not accepted by %s: %s: %s", p.Controller, c.Reason, c.Message))}
			}
		}
	}
	now, ours := r.traffic(pairs)
	if !ours || !now.rest() && now != r.noted() {
		return &WeightsError{Object: "httproute " + t.svc.Name, What: describe(pairs), By: author(r.ObjectMeta, `"f:rules"`)}
	}
	t.traffic = now
	return nil
}

// Image is that of the container that a Deployment is about, "" without one.
func Image(d *apps.Deployment, container string) string {
	for _, c := range d.Spec.Template.Spec.Containers {
		if c.Name == container {
			return c.Image
		}
	}
	return ""
}
