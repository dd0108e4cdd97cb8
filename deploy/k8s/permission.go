package k8s

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	authorization "k8s.io/api/authorization/v1"
)

// Permission is one thing that a rollout does in the namespace of the service.
// Name is empty where RBAC cannot name the object (list, create).
type Permission struct {
	Verb, Group, Resource, Subresource, Name string
}

func (p Permission) path() string {
	path := p.Resource
	if p.Group != "" {
		path += "." + p.Group
	}
	if p.Name != "" {
		path += "/" + p.Name
	}
	if p.Subresource != "" {
		path += " --subresource=" + p.Subresource
	}
	return path
}

// String says it as a person would.
func (p Permission) String() string {
	what := p.Resource
	if p.Subresource != "" {
		what += "/" + p.Subresource
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", p.Verb, what, p.Name))
}

// Permissions lists all that a rollout of the service needs. The stable
// Deployment is only read; of the canary's only the scale is written.
func (s Service) Permissions() []Permission {
	need := []Permission{
		{"get", "apps", "deployments", "", s.stable()},
		{"get", "apps", "deployments", "", s.canary()},
		{"patch", "apps", "deployments", "scale", s.canary()},
		{"get", "", "services", "", s.stable()},
		{"get", "", "services", "", s.canary()},
		{"list", "discovery.k8s.io", "endpointslices", "", ""},
		{"list", "", "pods", "", ""},
		{"list", "", "events", "", ""},
		{"create", "", "events", "", ""},
	}
	if !s.Route {
		return append(need, Permission{"get", "", "services", "", s.Name})
	}
	return append(need,
		Permission{"get", routeGroup, "httproutes", "", s.Name},
		Permission{"patch", routeGroup, "httproutes", "", s.Name})
}

// checkPermissions asks the API server about every permission and names all
// that are missing.
func (t *Target) checkPermissions(ctx context.Context) error {
	denied := &ForbiddenError{Namespace: t.svc.Namespace}
	for _, p := range t.svc.Permissions() {
		review := authorization.SelfSubjectAccessReview{}
		review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SelfSubjectAccessReview"
		review.Spec.ResourceAttributes = &authorization.ResourceAttributes{
			Namespace: t.svc.Namespace, Verb: p.Verb, Group: p.Group, Resource: p.Resource, Subresource: p.Subresource, Name: p.Name,
		}
		err := t.api.create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, &review)
		if apierrors.IsForbidden(err) {
			return nil // asking is not allowed here; what is forbidden shows when it is done
		}
		if err != nil {
			return fmt.Errorf("asking what this account may do: %w", err)
		}
		if !review.Status.Allowed {
			denied.Missing = append(denied.Missing, p)
		}
	}
	if len(denied.Missing) > 0 {
		return denied
	}
	return nil
}
