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
	images, hooks, pods, sync, application := s.imagePolicy(), s.hookPolicy(), s.podPolicy(), s.syncPolicy(), s.applicationPolicy()
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
		{"The account of the hooks is for the hooks, as they were rendered, and their names are for nothing else.", hooks},
		{"", bind(hooks, "")},
		{"The same for pods: whatever kind of object makes them, only those of a Job have the account of the hooks.", pods},
		{"", bind(pods, "")},
		{"What Argo CD writes for this service is what is in base. No other kind of object can come in by a\ncommit, and no pod but those of the two Deployments and the hooks, whatever the AppProject allows.", sync},
		{"", bind(sync, "")},
		{"The hooks write their verdict on the Application, and nothing that Argo CD goes by.", application},
		{"", bind(application, "")},
	}
}

func (s *service) policy(name string, spec admission.ValidatingAdmissionPolicySpec) admission.ValidatingAdmissionPolicy {
	m := s.meta(s.policyName(name), "hook")
	m.Namespace = ""
	spec.FailurePolicy = ptr(admission.Fail)
	return admission.ValidatingAdmissionPolicy{TypeMeta: kind("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"), ObjectMeta: m, Spec: spec}
}

func (s *service) policyName(name string) string { return s.k.Namespace + "-" + s.name + "-" + name }

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
			// It would be another image in all but name: a command in it is run by the one that was admitted.
			Expression: "!has(variables.pod.volumes) || variables.pod.volumes.all(v, !has(v.image))",
			Message:    "a volume may not be an image, which no hook of a sync has seen",
		}, {
			Expression:        "variables.images.all(i, i in variables.before || variables.may.exists(d, d != '' && i.endsWith('@' + d)))",
			MessageExpression: "request.name + ' may not get ' + variables.images.join(', ') + ': the hooks of a sync have not ' + (" + fmt.Sprintf("request.name == %s", celText(s.name+"-"+stable)) + " ? 'passed' : 'admitted') + ' it'",
		}},
	})
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
