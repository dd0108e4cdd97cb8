package render

import (
	core "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// setup is what is applied once for the service, by somebody who may grant these
// rights. Argo CD does not apply it: then whoever may commit could grant himself more.
func setup(s *service) (map[string][]byte, error) {
	return write(
		setupDir, kustomization{},
		file{"namespace.yaml", []doc{{"", s.namespace()}}},
		file{"rights.yaml", s.rights()},
		file{"settings.yaml", []doc{
			{"What releases are judged by: read by the hooks, and out of reach of a commit.", s.settings()},
			{"The images that may run: written by the hooks, read by the policies.", s.admitted()},
		}},
		file{"admission.yaml", s.policies()},
		file{"project.yaml", []doc{{"What the application may consist of, and where from and where to.", s.project()}}},
		file{"application.yaml", []doc{{s.applicationComment(), s.application()}}},
	)
}

// namespace warns of pods that ask for more than ours do. It enforces nothing:
// the namespace may have others in it.
func (s *service) namespace() core.Namespace {
	m := metav1.ObjectMeta{Name: s.k.Namespace, Labels: s.labels("")}
	m.Labels["pod-security.kubernetes.io/warn"] = "restricted"
	m.Labels["pod-security.kubernetes.io/audit"] = "restricted"
	return core.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: m}
}

// rights are those of the hooks: what they write is named.
func (s *service) rights() []doc {
	account := core.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: s.meta(s.account(), "hook"), AutomountServiceAccountToken: ptr(false)}
	docs := []doc{{"The hooks run as this.", account}}
	for _, in := range []struct {
		namespace, name, comment string
		rules                    []rbac.PolicyRule
	}{
		{s.k.Namespace, s.account(), "In the namespace of the service: look, scale the canary, " + map[bool]string{true: "move the weights, "}[s.route()] + "write the history.", s.ownRules()},
		{s.a.Namespace, s.k.Namespace + "-" + s.account(), "In the namespace of Argo CD: the settings, this one Application, for the verdict on it, and events about it.", []rbac.PolicyRule{
			named("", "configmaps", []string{"get"}, s.settingsName()),
			named("argoproj.io", "applications", []string{"get", "patch"}, s.name),
			free("", "events", "create"),
		}},
		{s.k.Probe.Namespace, s.k.Namespace + "-" + s.account(), "In the namespace of the probes: where they are.", []rbac.PolicyRule{
			free("", "pods", "list"),
		}},
	} {
		m := s.meta(in.name, "hook")
		m.Namespace = in.namespace
		docs = append(
			docs,
			doc{in.comment, rbac.Role{TypeMeta: kind("rbac.authorization.k8s.io/v1", "Role"), ObjectMeta: m, Rules: in.rules}},
			doc{"", rbac.RoleBinding{
				TypeMeta: kind("rbac.authorization.k8s.io/v1", "RoleBinding"), ObjectMeta: m,
				RoleRef:  rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "Role", Name: in.name},
				Subjects: []rbac.Subject{{Kind: rbac.ServiceAccountKind, Namespace: s.k.Namespace, Name: s.account()}},
			}},
		)
	}
	return docs
}

func (s *service) account() string { return s.name + "-sluice" }

func (s *service) ownRules() []rbac.PolicyRule {
	stable, canary := s.name+"-"+stable, s.name+"-"+canary
	services := []string{stable, canary}
	if !s.route() { // with one clients come through the gateway
		services = append(services, s.name)
	}
	rules := []rbac.PolicyRule{
		named("apps", "deployments", []string{"get"}, stable, canary),
		named("apps", "deployments/scale", []string{"patch"}, canary),
		named("", "services", []string{"get"}, services...),
		// What one hook leaves to the next, what may run, and the lock between hooks.
		named("", "configmaps", []string{"get", "update"}, s.name+"-verdict"),
		named("", "configmaps", []string{"patch"}, s.name+"-admitted"),
		named("coordination.k8s.io", "leases", []string{"get", "update"}, s.account()),
		// RBAC cannot bind lists and creations to names.
		free("", "configmaps", "create"),
		free("coordination.k8s.io", "leases", "create"),
		free("discovery.k8s.io", "endpointslices", "list"),
		free("", "pods", "list"),
		free("", "events", "list", "create"),
	}
	if len(s.k.Ledger.Etcd) == 0 {
		rules = append(rules, named("", "configmaps", []string{"get", "patch"}, s.name+"-ledger"))
	}
	if s.route() {
		rules = append(rules, named("gateway.networking.k8s.io", "httproutes", []string{"get", "patch"}, s.name))
	}
	return rules
}

func named(group, resource string, verbs []string, names ...string) rbac.PolicyRule {
	return rbac.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names, Verbs: verbs}
}

func free(group, resource string, verbs ...string) rbac.PolicyRule {
	return rbac.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}
