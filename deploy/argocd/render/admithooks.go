package render

import (
	"fmt"
	"maps"
	"slices"

	admission "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// pins is what the hooks of base have in common, or by name.
type pins struct {
	arguments, env map[string]string
	paths, secrets map[string]bool
}

func (s *service) pins() pins {
	p := pins{map[string]string{}, map[string]string{}, map[string]bool{}, map[string]bool{}}
	for _, h := range s.hookList() {
		p.arguments[s.name+"-"+h.name] = h.argument
		pod := s.hookPod(h)
		for _, e := range pod.Containers[0].Env {
			if e.Name != "SLUICE_IMAGE" && e.ValueFrom == nil {
				p.env[e.Name] = e.Value
			}
		}
		for _, m := range pod.Containers[0].VolumeMounts {
			p.paths[m.MountPath] = true
		}
		for _, v := range pod.Volumes {
			if v.Secret != nil {
				p.secrets[v.Secret.SecretName] = true
			}
		}
	}
	return p
}

// hookPolicy compares with the Jobs in base those that run as the hooks' account
// and those that are called as a hook is. What is not compared cannot make the
// program do anything else.
func (s *service) hookPolicy() admission.ValidatingAdmissionPolicy {
	p := s.pins()
	return s.policy("hooks", admission.ValidatingAdmissionPolicySpec{
		// A Job's pods cannot be changed later.
		MatchConstraints: in(
			s.k.Namespace, requests("apps", "v1", "deployments", nil, admission.Create, admission.Update),
			requests("batch", "v1", "jobs", nil, admission.Create),
		),
		Variables: []admission.Variable{
			{Name: "pod", Expression: "object.spec.template.spec"},
			{Name: "c", Expression: "variables.pod.containers[0]"},
			{Name: "labels", Expression: "object.spec.template.?metadata.?labels.orValue({})"},
			{Name: "arguments", Expression: celMap(p.arguments)},
			{Name: "env", Expression: celMap(p.env)},
			{Name: "account", Expression: "variables.pod.?serviceAccountName.orValue('') == " + celText(s.account())},
			{Name: "hook", Expression: "variables.account || request.resource.resource == 'jobs' && request.name in variables.arguments"},
		},
		Validations: append(s.hookDemands(p), s.secretDemand()),
	})
}

// secretDemand keeps from the pods of the service what the hooks log in with. They
// run an image that is signed, but with arguments and an environment that are not.
func (s *service) secretDemand() admission.Validation {
	secrets := slices.DeleteFunc([]string{s.a.Secret, s.k.Ledger.Secret}, func(name string) bool { return name == "" })
	const demand = "!(request.resource.resource == 'deployments' && request.name in %[1]s) ||" +
		" variables.pod.?volumes.orValue([]).all(v, !(v.?secret.?secretName.orValue('') in %[2]s) && v.?projected.?sources.orValue([]).all(p, !(p.?secret.?name.orValue('') in %[2]s))) &&" +
		" (variables.pod.containers + variables.pod.?initContainers.orValue([])).all(c, c.?envFrom.orValue([]).all(f, !(f.?secretRef.?name.orValue('') in %[2]s)) &&" +
		" c.?env.orValue([]).all(e, !(e.?valueFrom.?secretKeyRef.?name.orValue('') in %[2]s)))"
	return admission.Validation{
		Expression: fmt.Sprintf(demand, celList(s.deployments()), celList(secrets)),
		Message:    "the pods of " + s.name + " may not have the Secrets of the hooks",
	}
}

// hookDemands is what holds of every hook.
func (s *service) hookDemands(p pins) (demands []admission.Validation) {
	const outdated = ": render again, and kubectl apply -k setup"
	for _, d := range []struct{ expression, message string }{
		{"request.resource.resource == 'jobs'", "a Deployment may not run as the account of the hooks"},
		{"variables.account", "a Job with the name of a hook runs as the account of the hooks"},
		{
			"variables.pod.containers.size() == 1 && !has(variables.pod.initContainers) && variables.c.image == " + celText(s.o.HookImage),
			"a hook has one container and the image of the setup" + outdated,
		},
		{
			"request.name in variables.arguments && !has(variables.c.command) && variables.c.args == ['hook', variables.arguments[request.name]]" +
				" && !has(variables.c.lifecycle) && !has(variables.c.startupProbe) && !has(variables.c.livenessProbe) && !has(variables.c.readinessProbe)",
			"a hook runs what its name says, and nothing beside it",
		},
		{
			// A value from a Secret would be in the message about an image that is none.
			"!has(variables.c.envFrom) && variables.c.env.all(e, e.name in variables.env ? e.?value.orValue('') == variables.env[e.name] && !has(e.valueFrom) :" +
				" e.name == 'SLUICE_IMAGE' ? !has(e.valueFrom) : e.name == 'POD_NAME' && e.?valueFrom.?fieldRef.?fieldPath.orValue('') == 'metadata.name')",
			"a hook has the environment of the setup" + outdated,
		},
		{
			fmt.Sprintf("variables.c.volumeMounts.all(m, m.mountPath in %s) && variables.pod.volumes.all(v, has(v.emptyDir) || has(v.secret) && v.secret.secretName in %s)",
				celList(slices.Sorted(maps.Keys(p.paths))), celList(slices.Sorted(maps.Keys(p.secrets)))),
			"a hook has the volumes of the setup" + outdated,
		},
		{
			fmt.Sprintf("variables.labels[?%s].orValue('') != %s && !(%s in variables.labels)", celText(nameLabel), celText(s.name), celText(trackLabel)),
			"the pod of a hook has no labels of the service, whose clients would be sent to it",
		},
		{
			"!has(variables.pod.hostAliases) && !has(variables.pod.dnsConfig)",
			"a hook finds git and registry where all pods find them",
		},
	} {
		demands = append(demands, admission.Validation{Expression: "!variables.hook || " + d.expression, Message: d.message})
	}
	return demands
}

// podPolicy keeps the account from every other kind of object: what makes pods of
// it is not the controller of Jobs, and the Jobs are the hooks'.
func (s *service) podPolicy() admission.ValidatingAdmissionPolicy {
	return s.policy("pods", admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: in(s.k.Namespace, requests("", "v1", "pods", nil, admission.Create)),
		MatchConditions: []admission.MatchCondition{{
			Name: "as-the-hooks", Expression: "object.spec.?serviceAccountName.orValue('') == " + celText(s.account()),
		}},
		Validations: []admission.Validation{{
			Expression: "request.userInfo.username in ['system:serviceaccount:kube-system:job-controller', 'system:kube-controller-manager']",
			Message:    "only the pods of a Job may run as the account of the hooks",
		}},
	})
}

// keyVariable has in it the label by which Argo CD knows what it has applied.
const (
	keyVariable = "key"
	instanceKey = "app.kubernetes.io/instance"
)

// syncPolicy holds Argo CD to the kinds of the project, and what has pods to its name.
func (s *service) syncPolicy() admission.ValidatingAdmissionPolicy {
	everything := requests("*", "*", "*", nil, admission.Create, admission.Update)
	everything.Scope = ptr(admission.NamespacedScope)
	var allowed []string
	for _, k := range s.kinds() {
		plural, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: k.Group, Kind: k.Kind})
		allowed = append(allowed, plural.GroupResource().String())
	}
	names := append(s.deployments(), slices.Sorted(maps.Keys(s.pins().arguments))...)
	return s.policy("sync", admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: in(s.k.Namespace, everything),
		MatchConditions: []admission.MatchCondition{{
			Name: "argo-cd-writes", Expression: celText("system:serviceaccounts:"+s.a.Namespace) + " in request.userInfo.groups",
		}},
		Variables: []admission.Variable{
			{Name: "kind", Expression: "request.resource.resource + (request.resource.group == '' ? '' : '.' + request.resource.group)"},
			// Argo CD marks what it applies with the name of the Application, by a label or an annotation.
			{Name: keyVariable, Expression: celText(s.o.instanceLabel())},
			{Name: "label", Expression: "object.?metadata.?labels[?variables." + keyVariable + "].orValue('')"},
			{Name: "note", Expression: "object.?metadata.?annotations[?'argocd.argoproj.io/tracking-id'].orValue('')"},
			{Name: "ours", Expression: fmt.Sprintf("variables.label == %[1]s || variables.note.startsWith(%[1]s + ':') || variables.label + variables.note == ''", celText(s.name))},
		},
		Validations: []admission.Validation{{
			Expression: "!variables.ours || variables.kind in " + celList(allowed),
			Message:    "a sync of " + s.name + " applies the kinds of its base, and no others: what else belongs to it comes by another Application",
		}, {
			Expression: "!variables.ours || !(variables.kind in ['deployments.apps', 'jobs.batch']) || request.name in " + celList(names),
			Message:    "a sync of " + s.name + " applies its two Deployments and its hooks, and nothing else that has pods",
		}},
	})
}
