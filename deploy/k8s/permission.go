package k8s

import "github.com/sluice-cd/sluice/deploy/k8s/apiserver"

// Permissions lists all that a rollout of the service needs. The stable
// Deployment is only read; of the canary's only the scale is written.
func (s Service) Permissions() []apiserver.Permission {
	need := []apiserver.Permission{
		{Verb: "get", Group: "apps", Resource: "deployments", Name: s.stable()},
		{Verb: "get", Group: "apps", Resource: "deployments", Name: s.canary()},
		{Verb: "patch", Group: "apps", Resource: "deployments", Subresource: "scale", Name: s.canary()},
		{Verb: "get", Resource: "services", Name: s.stable()},
		{Verb: "get", Resource: "services", Name: s.canary()},
		{Verb: "list", Group: "discovery.k8s.io", Resource: "endpointslices"},
		{Verb: "list", Resource: "pods"},
		{Verb: "list", Resource: "events"},
		{Verb: "create", Resource: "events"},
	}
	if !s.Route {
		return append(need, apiserver.Permission{Verb: "get", Resource: "services", Name: s.Name})
	}
	return append(need,
		apiserver.Permission{Verb: "get", Group: routeGroup, Resource: "httproutes", Name: s.Name},
		apiserver.Permission{Verb: "patch", Group: routeGroup, Resource: "httproutes", Name: s.Name})
}
