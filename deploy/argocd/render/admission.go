package render

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	admission "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// policies hold a commit to what Argo CD may not be trusted with. It applies
// whatever the folder says, with or without the hooks, and so does somebody who
// syncs a single resource by hand. The API server itself asks these.
func (s *service) policies() []doc {
	images, hooks, application := s.imagePolicy(), s.hookPolicy(), s.applicationPolicy()
	bind := func(p admission.ValidatingAdmissionPolicy, param string) admission.ValidatingAdmissionPolicyBinding {
		b := admission.ValidatingAdmissionPolicyBinding{
			TypeMeta: kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"), ObjectMeta: p.ObjectMeta,
			Spec: admission.ValidatingAdmissionPolicyBindingSpec{PolicyName: p.Name, ValidationActions: []admission.ValidationAction{admission.Deny}},
		}
		if param != "" {
			b.Spec.ParamRef = &admission.ParamRef{Name: param, Namespace: s.k.Namespace, ParameterNotFoundAction: ptr(admission.DenyAction)}
		}
		return b
	}
	return []doc{
		{"The two Deployments get an image only when the hooks have said so, whoever writes it: the canary\none that was admitted, the stable version one that has passed the gate.", images},
		{"", bind(images, s.name+"-admitted")},
		{"The account of the hooks is for the hooks, as they were rendered; and what Argo CD applies for\nthis service are its two Deployments and its hooks, and no other pod.", hooks},
		{"", bind(hooks, "")},
		{"The hooks write their verdict on the Application, and nothing that Argo CD goes by.", application},
		{"", bind(application, "")},
	}
}

func (s *service) policy(name string, spec admission.ValidatingAdmissionPolicySpec) admission.ValidatingAdmissionPolicy {
	m := s.meta(s.k.Namespace+"-"+s.name+"-"+name, "hook")
	m.Namespace = ""
	spec.FailurePolicy = ptr(admission.Fail)
	return admission.ValidatingAdmissionPolicy{TypeMeta: kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"), ObjectMeta: m, Spec: spec}
}

// in are requests for objects of a namespace.
func in(namespace string, rules ...admission.NamedRuleWithOperations) *admission.MatchResources {
	return &admission.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": namespace}}, ResourceRules: rules}
}

func requests(group, version, resource string, names []string, operations ...admission.OperationType) admission.NamedRuleWithOperations {
	return admission.NamedRuleWithOperations{ResourceNames: names, RuleWithOperations: admission.RuleWithOperations{
		Operations: operations, Rule: admission.Rule{APIGroups: []string{group}, APIVersions: []string{version}, Resources: []string{resource}},
	}}
}

func (s *service) deployments() []string {
	return []string{s.name + "-" + stable, s.name + "-" + canary}
}

func (s *service) imagePolicy() admission.ValidatingAdmissionPolicy {
	return s.policy("images", admission.ValidatingAdmissionPolicySpec{
		ParamKind:        &admission.ParamKind{APIVersion: "v1", Kind: "ConfigMap"},
		MatchConstraints: in(s.k.Namespace, requests("apps", "v1", "deployments", s.deployments(), admission.Create, admission.Update)),
		Variables: []admission.Variable{
			{Name: "pod", Expression: "object.spec.template.spec"},
			{Name: "images", Expression: "(variables.pod.containers + variables.pod.?initContainers.orValue([])).map(c, c.image)"},
			{Name: "before", Expression: "request.operation == 'CREATE' ? [] : oldObject.spec.template.spec.containers.map(c, c.image)"},
			{Name: "passed", Expression: "params.?data[?'passed'].orValue('')"},
			{Name: "admitted", Expression: "params.?data[?'admitted'].orValue('')"},
			{Name: "may", Expression: fmt.Sprintf("request.name == %s ? [variables.passed] : [variables.passed, variables.admitted]", celText(s.name+"-"+stable))},
		},
		Validations: []admission.Validation{{
			Expression:        "variables.images.all(i, i in variables.before || variables.may.exists(d, d != '' && i.endsWith('@' + d)))",
			MessageExpression: "request.name + ' may not get ' + variables.images.join(', ') + ': the hooks of a sync have not ' + (" + fmt.Sprintf("request.name == %s", celText(s.name+"-"+stable)) + " ? 'passed' : 'admitted') + ' it'",
		}},
	})
}

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

// hookPolicy compares Jobs that run as the hooks' account with those in base. What
// is not compared cannot make the program do anything else.
func (s *service) hookPolicy() admission.ValidatingAdmissionPolicy {
	p := s.pins()
	argo := celText("system:serviceaccounts:" + s.a.Namespace)
	return s.policy("hooks", admission.ValidatingAdmissionPolicySpec{
		// A Job's pods cannot be changed later.
		MatchConstraints: in(
			s.k.Namespace, requests("apps", "v1", "deployments", nil, admission.Create, admission.Update),
			requests("batch", "v1", "jobs", nil, admission.Create),
		),
		Variables: []admission.Variable{
			{Name: "pod", Expression: "object.spec.template.spec"},
			{Name: "c", Expression: "variables.pod.containers[0]"},
			{Name: "hook", Expression: "variables.pod.?serviceAccountName.orValue('') == " + celText(s.account())},
			{Name: "arguments", Expression: celMap(p.arguments)},
			{Name: "env", Expression: celMap(p.env)},
			// Argo CD marks what it applies with the name of the Application, by a label or an annotation.
			{Name: "label", Expression: "object.metadata.?labels[?'app.kubernetes.io/instance'].orValue('')"},
			{Name: "note", Expression: "object.metadata.?annotations[?'argocd.argoproj.io/tracking-id'].orValue('')"},
			{Name: "ours", Expression: fmt.Sprintf("variables.label == %[1]s || variables.note.startsWith(%[1]s + ':') || variables.label + variables.note == ''", celText(s.name))},
		},
		Validations: append(s.hookDemands(p), admission.Validation{
			Expression: fmt.Sprintf("!(%s in request.userInfo.groups) || !variables.ours || request.name in %s", argo, celList(append(s.deployments(), slices.Sorted(maps.Keys(p.arguments))...))),
			Message:    "a sync of " + s.name + " applies its two Deployments and its hooks, and nothing else that has pods",
		}),
	})
}

// hookDemands is what holds of everything that runs as the account of the hooks.
func (s *service) hookDemands(p pins) (demands []admission.Validation) {
	const outdated = ": render again, and kubectl apply -k setup"
	for _, d := range []struct{ expression, message string }{
		{"request.resource.resource == 'jobs'", "a Deployment may not run as the account of the hooks"},
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
			"!has(variables.c.envFrom) && variables.c.env.all(e, e.name in variables.env ? e.?value.orValue('') == variables.env[e.name] && !has(e.valueFrom) : e.name in ['SLUICE_IMAGE', 'POD_NAME'])",
			"a hook has the environment of the setup" + outdated,
		},
		{
			fmt.Sprintf("variables.c.volumeMounts.all(m, m.mountPath in %s) && variables.pod.volumes.all(v, has(v.emptyDir) || has(v.secret) && v.secret.secretName in %s)",
				celList(slices.Sorted(maps.Keys(p.paths))), celList(slices.Sorted(maps.Keys(p.secrets)))),
			"a hook has the volumes of the setup" + outdated,
		},
	} {
		demands = append(demands, admission.Validation{Expression: "!variables.hook || " + d.expression, Message: d.message})
	}
	return demands
}

func (s *service) applicationPolicy() admission.ValidatingAdmissionPolicy {
	return s.policy("application", admission.ValidatingAdmissionPolicySpec{
		MatchConstraints: in(s.a.Namespace, requests("argoproj.io", "v1alpha1", "applications", nil, admission.Update)),
		MatchConditions: []admission.MatchCondition{{
			Name: "the-hooks-write", Expression: fmt.Sprintf("request.userInfo.username == %s", celText("system:serviceaccount:"+s.k.Namespace+":"+s.account())),
		}},
		Validations: []admission.Validation{{
			Expression: "object.spec == oldObject.spec && object.?operation == oldObject.?operation",
			Message:    "hooks may not change what an Application asks for",
		}},
	})
}

// celText is a string literal of CEL.
func celText(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

func celList(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = celText(t)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

func celMap(m map[string]string) string {
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		pairs = append(pairs, celText(key)+": "+celText(m[key]))
	}
	return "{" + strings.Join(pairs, ", ") + "}"
}
