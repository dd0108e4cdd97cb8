package apiserver

import (
	"context"
	"fmt"
	"strings"

	authorization "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Permission is one thing that is done in a namespace.
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

// CheckAccess asks the API server about every permission; all that are missing are
// named together, in a *ForbiddenError.
func (c *Client) CheckAccess(ctx context.Context, namespace string, need []Permission) error {
	denied := &ForbiddenError{Namespace: namespace}
	for _, p := range need {
		review := authorization.SelfSubjectAccessReview{}
		review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SelfSubjectAccessReview"
		review.Spec.ResourceAttributes = &authorization.ResourceAttributes{
			Namespace: namespace, Verb: p.Verb, Group: p.Group, Resource: p.Resource, Subresource: p.Subresource, Name: p.Name,
		}
		err := c.Create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, &review)
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

// ForbiddenError means that the account may not do what is needed.
type ForbiddenError struct {
	Namespace string
	Missing   []Permission
}

func (e *ForbiddenError) Error() string {
	var missing []string
	for _, p := range e.Missing {
		missing = append(missing, p.String())
	}
	if n := len(missing); n > 4 {
		missing = append(missing[:3], fmt.Sprintf("and do %d more things", n-3))
	}
	return fmt.Sprintf("in namespace %s this account may not %s", e.Namespace, strings.Join(missing, ", "))
}

// Hint says what to do about it.
func (e *ForbiddenError) Hint() string {
	p := e.Missing[0]
	return fmt.Sprintf("is deploy.kubernetes.namespace right? If so the service account needs the Role that sluice-argo render writes; try: kubectl auth can-i %s %s -n %s --as system:serviceaccount:%s:NAME",
		p.Verb, p.path(), e.Namespace, e.Namespace)
}
