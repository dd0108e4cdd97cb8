package render

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	hooks "github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/internal/cluster"
)

// court is an API server with the setup of a sample, and who asks it.
type court struct {
	admin, argo, hooks dynamic.Interface
	jobs, sets         dynamic.Interface                     // controllers
	account            *rest.Config                          // of the hooks
	objects            map[string]*unstructured.Unstructured // what Argo CD would apply, by kind and name
}

func newCourt(t *testing.T) *court {
	t.Helper()
	plane := cluster.ControlPlane(t)
	plane.ArgoCD(t)
	plane.Apply(t, "", namespaces, `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: argocd}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects: [{kind: Group, apiGroup: rbac.authorization.k8s.io, name: "system:serviceaccounts:argocd"}]`)
	plane.Apply(t, "", kustomize(t, ".", "build", filepath.Join(samples, "replicas", setupDir)))
	c := &court{objects: map[string]*unstructured.Unstructured{}, account: plane.ServiceAccount(t, "shop", "shop-sluice")}
	for cfg, into := range map[*rest.Config]*dynamic.Interface{
		plane.Config: &c.admin, plane.ServiceAccount(t, "argocd", "argocd-application-controller"): &c.argo, c.account: &c.hooks,
		plane.ServiceAccount(t, "kube-system", "job-controller"): &c.jobs, plane.ServiceAccount(t, "kube-system", "statefulset-controller"): &c.sets,
	} {
		cfg = rest.CopyConfig(cfg)
		cfg.WarningHandler = rest.NoWarnings{}
		client, err := dynamic.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		*into = client
	}
	for _, o := range built(t, filepath.Join(samples, "replicas")) {
		c.objects[o.GetKind()+" "+o.GetName()] = o
	}
	return c
}

// rules waits until the policies hold: the API server learns of them a moment
// after they were written.
func (c *court) rules(t *testing.T, name, want string, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = try(); want == "" && err == nil || want != "" && err != nil && strings.Contains(err.Error(), want) {
			return
		}
	}
	t.Fatalf("%s: %v, want %q", name, err, want)
}

// edited is an object with a YAML patch merged into it.
func (c *court) edited(t *testing.T, what, patch string) *unstructured.Unstructured {
	t.Helper()
	o := c.objects[what].DeepCopy()
	var p map[string]any
	if err := yaml.Unmarshal([]byte(patch), &p); err != nil {
		t.Fatal(err)
	}
	merge(o.Object, p)
	return o
}

// merge puts a patch into a tree. A list of objects is merged object by object,
// and what it has more is added.
func merge(into, patch map[string]any) {
	for key, value := range patch {
		switch v := value.(type) {
		case map[string]any:
			if below, ok := into[key].(map[string]any); ok {
				merge(below, v)
				continue
			}
		case []any:
			if list, ok := into[key].([]any); ok && key != "args" {
				for i, item := range v {
					if i >= len(list) {
						list = append(list, item)
					} else if m, ok := item.(map[string]any); ok {
						merge(list[i].(map[string]any), m)
					}
				}
				into[key] = list
				continue
			}
		}
		into[key] = value
	}
}

// pod wraps a patch of a pod's spec.
func pod(patch string) string { return "{spec: {template: {spec: " + patch + "}}}" }

// note writes what may run, as the hooks do.
func (c *court) note(t *testing.T, key, digest string) {
	t.Helper()
	maps := c.hooks.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace("shop")
	c.rules(t, "noting what is "+key, "", func() error {
		_, err := maps.Patch(t.Context(), "shop-admitted", types.MergePatchType, []byte(`{"data":{"`+key+`":"`+digest+`"}}`), metav1.PatchOptions{})
		return err
	})
}

// TestNoCommitGetsPastTheHooks sends to a real API server what Argo CD would send
// after commits that mean harm.
func TestNoCommitGetsPastTheHooks(t *testing.T) {
	c := newCourt(t)
	canary, stable := c.objects["Deployment shop-canary"], c.objects["Deployment shop-stable"]
	try := func(client dynamic.Interface, o *unstructured.Unstructured) func() error {
		return func() error { return create(t.Context(), client, o) }
	}
	t.Run("images", func(t *testing.T) {
		digest := shopRef[strings.Index(shopRef, "sha256:"):]
		c.rules(t, "an image that no hook has seen", "shop-canary may not get "+shopRef+": the hooks of a sync have not admitted it", try(c.argo, canary))
		c.rules(t, "the same by an administrator", "have not admitted it", try(c.admin, canary))
		c.note(t, "admitted", digest)
		c.rules(t, "an admitted image in the canary", "", try(c.argo, canary))
		c.rules(t, "an admitted image in the stable version", "shop-stable may not get "+shopRef+": the hooks of a sync have not passed it", try(c.argo, stable))
		c.rules(t, "a container beside it", "have not admitted it", try(c.argo, c.edited(t, "Deployment shop-canary", pod("{containers: [{}, {name: more, image: registry.example.com/more}]}"))))
		c.rules(t, "a container before it", "have not admitted it", try(c.argo, c.edited(t, "Deployment shop-canary", pod("{initContainers: [{name: more, image: registry.example.com/more}]}"))))
		c.note(t, "passed", digest)
		c.rules(t, "an image that has passed", "", try(c.argo, stable))
	})
	for name, tt := range map[string]struct{ what, patch, want string }{
		"a hook as rendered, for any image":   {"Job shop-gate", pod("{containers: [{env: [{name: SLUICE_IMAGE, value: other}]}]}"), ""},
		"a hook of another program":           {"Job shop-presync", pod("{containers: [{image: registry.example.com/evil}]}"), "image of the setup"},
		"a hook with another container":       {"Job shop-presync", pod("{containers: [{}, {name: more, image: registry.example.com/evil}]}"), "image of the setup"},
		"a hook with something before it":     {"Job shop-presync", pod("{initContainers: [{name: more, image: registry.example.com/evil}]}"), "image of the setup"},
		"a hook that runs something else":     {"Job shop-presync", pod("{containers: [{command: [/bin/sh]}]}"), "what its name says"},
		"a hook that does another one's work": {"Job shop-presync", pod("{containers: [{args: [hook, postsync]}]}"), "what its name says"},
		"a hook with settings of its own":     {"Job shop-presync", pod("{containers: [{args: [hook, presync, --settings, /tmp]}]}"), "what its name says"},
		"a hook with an errand":               {"Job shop-presync", pod("{containers: [{lifecycle: {postStart: {exec: {command: [sluice-argo, forget]}}}}]}"), "what its name says"},
		"a hook that looks elsewhere":         {"Job shop-presync", pod("{containers: [{env: [{}, {value: shop/mine}]}]}"), "environment of the setup"},
		"a hook with another API server":      {"Job shop-presync", pod("{containers: [{env: [{}, {}, {}, {}, {}, {}, {name: KUBERNETES_SERVICE_HOST, value: 192.0.2.1}]}]}"), "environment of the setup"},
		"a hook with files of its own":        {"Job shop-gate", pod("{volumes: [{}, {name: mine, configMap: {name: mine}}]}"), "volumes of the setup"},
		"a hook with somebody's secret":       {"Job shop-presync", pod("{volumes: [{}, {}, {name: mine, secret: {secretName: other}}]}"), "volumes of the setup"},
		"a hook with another token": {
			"Job shop-gate", pod("{containers: [{volumeMounts: [{}, {name: tmp, mountPath: /var/run/secrets/kubernetes.io/serviceaccount}]}]}"), "volumes of the setup",
		},
		"a hook that reads out a secret": {
			"Job shop-gate", pod("{containers: [{env: [{name: SLUICE_IMAGE, value: null, valueFrom: {secretKeyRef: {name: shop-git, key: password}}}]}]}"), "environment of the setup",
		},
		"a hook in another one's name": {"Job shop-gate", pod("{containers: [{env: [{}, {}, {}, {}, {valueFrom: null, value: operator}]}]}"), "environment of the setup"},
		"a hook that clients are sent to": {
			"Job shop-gate", "{spec: {template: {metadata: {labels: {app.kubernetes.io/name: shop}}}}}", "no labels of the service",
		},
		"a hook that is taken for the stable version": {
			"Job shop-gate", "{spec: {template: {metadata: {labels: {sluice.dev/track: stable}}}}}", "no labels of the service",
		},
		"a hook that finds git elsewhere":        {"Job shop-syncfail", pod("{hostAliases: [{ip: 192.0.2.1, hostnames: [git.example.com]}]}"), "where all pods find them"},
		"a hook that asks another name server":   {"Job shop-syncfail", pod("{dnsPolicy: None, dnsConfig: {nameservers: [192.0.2.1]}}"), "where all pods find them"},
		"the name of a hook, another account":    {"Job shop-presync", pod("{serviceAccountName: default}"), "runs as the account of the hooks"},
		"the name of a hook, no account":         {"Job shop-postsync", pod("{serviceAccountName: null}"), "runs as the account of the hooks"},
		"the same, marked as another one's":      {"Job shop-presync", "{metadata: {labels: {app.kubernetes.io/instance: blog}}, spec: {template: {spec: {serviceAccountName: default}}}}", "runs as the account of the hooks"},
		"the name of a hook, another image":      {"Job shop-syncfail", pod("{serviceAccountName: default, containers: [{image: registry.example.com/evil}]}"), "runs as the account of the hooks"},
		"the name of a hook, pods for clients":   {"Job shop-gate", "{spec: {template: {metadata: {labels: {app.kubernetes.io/name: shop, sluice.dev/track: stable}}, spec: {serviceAccountName: default, containers: [{ports: [{name: http, containerPort: 8080}]}]}}}}", "runs as the account of the hooks"},
		"the name of a hook, somebody's secret":  {"Job shop-gate", pod("{serviceAccountName: default, volumes: [{}, {name: mine, secret: {secretName: shop-git}}]}"), "runs as the account of the hooks"},
		"the name of a hook, another program":    {"Job shop-gate", pod("{serviceAccountName: default, containers: [{command: [/bin/sh], args: [-c, evil]}]}"), "runs as the account of the hooks"},
		"one more Job with the rights":           {"Job shop-gate", "{metadata: {name: more, labels: {app.kubernetes.io/instance: blog}}}", "what its name says"},
		"a Deployment with the rights":           {"Deployment shop-stable", pod("{serviceAccountName: shop-sluice}"), "may not run as the account of the hooks"},
		"the rights by the name of old":          {"Deployment shop-stable", pod("{serviceAccount: shop-sluice}"), "may not run as the account of the hooks"},
		"a secret of the hooks as a file":        {"Deployment shop-stable", pod("{volumes: [{name: more, secret: {secretName: shop-git}}]}"), "may not have the Secrets of the hooks"},
		"a secret of the hooks among others":     {"Deployment shop-stable", pod("{volumes: [{name: more, projected: {sources: [{secret: {name: other}}, {secret: {name: shop-git}}]}}]}"), "may not have the Secrets of the hooks"},
		"a secret of the hooks as a variable":    {"Deployment shop-stable", pod("{containers: [{env: [{}, {}, {name: MORE, valueFrom: {secretKeyRef: {name: shop-git, key: password}}}]}]}"), "may not have the Secrets of the hooks"},
		"a secret of the hooks as variables":     {"Deployment shop-stable", pod("{containers: [{envFrom: [{secretRef: {name: shop-git}}]}]}"), "may not have the Secrets of the hooks"},
		"a secret of the hooks before the start": {"Deployment shop-stable", pod("{initContainers: [{name: more, image: " + shopRef + ", envFrom: [{secretRef: {name: shop-git}}]}]}"), "may not have the Secrets of the hooks"},
		"a secret of the service":                {"Deployment shop-stable", pod("{volumes: [{name: more, secret: {secretName: other}}, {name: again, projected: {sources: [{secret: {name: other}}]}}], containers: [{envFrom: [{secretRef: {name: other}}]}]}"), ""},
		"one more Deployment":                    {"Deployment shop-stable", "{metadata: {name: more}}", "nothing else that has pods"},
		"one more Deployment with the mark":      {"Deployment shop-stable", "{metadata: {name: more, labels: {app.kubernetes.io/instance: shop}}}", "nothing else that has pods"},
		"one more, marked as another one's":      {"Deployment shop-stable", "{metadata: {name: more, labels: {app.kubernetes.io/instance: x}, annotations: {argocd.argoproj.io/tracking-id: 'shop:apps/Deployment:shop/more'}}}", "nothing else that has pods"},
		"one more Job":                           {"Job shop-gate", "{metadata: {name: more}, spec: {template: {spec: {serviceAccountName: default}}}}", "nothing else that has pods"},
		"a Deployment of another service":        {"Deployment shop-stable", "{metadata: {name: blog-stable, labels: {app.kubernetes.io/instance: blog}}}", ""},
		"the stable version as it should be":     {"Deployment shop-stable", "{}", ""},
	} {
		t.Run(name, func(t *testing.T) { c.rules(t, name, tt.want, try(c.argo, c.edited(t, tt.what, tt.patch))) })
	}
	t.Run("volumes that are images", c.volumes)
	t.Run("of another kind", c.kinds)
	t.Run("everything of base", func(t *testing.T) {
		for name := range c.objects {
			c.rules(t, name, "", try(c.argo, c.edited(t, name, "{metadata: {labels: {app.kubernetes.io/instance: shop}}}")))
		}
	})
	t.Run("a Deployment that a person makes", func(t *testing.T) {
		c.rules(t, "", "", try(c.admin, c.edited(t, "Deployment shop-stable", "{metadata: {name: more}}")))
	})
	t.Run("where Argo CD has a label of its own", c.instance)
	t.Run("the policies of a service without a Secret", func(t *testing.T) {
		for _, text := range strings.Split(string(rendered(t, "replicas", Options{}, "    secret: shop-git\n", "")["setup/admission.yaml"]), "\n---\n") {
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
				t.Fatal(err)
			}
			o.SetName("bare-" + o.GetName())
			if err := create(t.Context(), c.admin, o); err != nil {
				t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
			}
		}
	})
	t.Run("what runs stays as it is", c.keeps)
	t.Run("the settings", c.settings)
	t.Run("the Application", c.application)
}

// of is an object of a kind that has pods, with a pod that runs as an account.
func (c *court) of(t *testing.T, apiVersion, kind, account string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(apiVersion)
	o.SetKind(kind)
	o.SetName("more")
	o.SetNamespace("shop")
	job := c.edited(t, "Job shop-gate", pod("{serviceAccountName: "+account+"}"))
	template := job.Object["spec"].(map[string]any)["template"].(map[string]any)
	labels := template["metadata"].(map[string]any)["labels"]
	switch kind {
	case "Pod":
		o.Object["spec"] = template["spec"]
	case "CronJob":
		o.Object["spec"] = map[string]any{"schedule": "* * * * *", "jobTemplate": map[string]any{"spec": job.Object["spec"]}}
	default:
		template["spec"].(map[string]any)["restartPolicy"] = "Always"
		o.Object["spec"] = map[string]any{"template": template, "selector": map[string]any{"matchLabels": labels}}
	}
	return o
}

// kinds shows that what has pods, or makes rights of them, cannot come in as
// something else. Argo CD could do anything here: no AppProject is asked.
func (c *court) kinds(t *testing.T) {
	const wrongKind, wrongAccount = "applies the kinds of its base", "only the pods of a Job"
	try := func(client dynamic.Interface, o *unstructured.Unstructured, mark string) func() error {
		if mark != "" {
			o.SetLabels(map[string]string{"app.kubernetes.io/instance": mark})
		}
		return func() error { return create(t.Context(), client, o) }
	}
	for apiVersion, kinds := range map[string][]string{"v1": {"Pod"}, "batch/v1": {"CronJob"}, "apps/v1": {"StatefulSet", "DaemonSet", "ReplicaSet"}} {
		for _, kind := range kinds {
			for _, mark := range []string{"shop", ""} {
				c.rules(t, kind+" of a commit", wrongKind, try(c.argo, c.of(t, apiVersion, kind, "default"), mark))
			}
			c.rules(t, kind+" of another service", "", try(c.argo, c.of(t, apiVersion, kind, "default"), "blog"))
			c.rules(t, kind+" that a person makes", "", try(c.admin, c.of(t, apiVersion, kind, "default"), ""))
		}
	}
	admitted := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "shop-verdict", "namespace": "shop"}, "data": map[string]any{"verdict.json": "{}"},
	}}
	c.rules(t, "a verdict that is committed", wrongKind, try(c.argo, admitted, "shop"))
	c.rules(t, "one more Service", "", try(c.argo, c.edited(t, "Service shop", "{metadata: {name: metrics}}"), "shop"))

	c.rules(t, "a pod as the hooks, by another service", wrongAccount, try(c.argo, c.of(t, "v1", "Pod", "shop-sluice"), "blog"))
	c.rules(t, "a pod as the hooks, by a person", wrongAccount, try(c.admin, c.of(t, "v1", "Pod", "shop-sluice"), ""))
	c.rules(t, "a pod of a StatefulSet as the hooks", wrongAccount, try(c.sets, c.of(t, "v1", "Pod", "shop-sluice"), ""))
	c.rules(t, "a pod of a Job as the hooks", "", try(c.jobs, c.of(t, "v1", "Pod", "shop-sluice"), ""))
	c.rules(t, "any other pod", "", try(c.sets, c.of(t, "v1", "Pod", "default"), ""))
}

// volumes shows that an image cannot come in as a volume. An API server that does
// not know of such volumes leaves them out before it asks, so the demand is tried
// with another kind of volume, too.
func (c *court) volumes(t *testing.T) {
	const refused = "a volume may not be an image"
	image := c.edited(t, "Deployment shop-canary", pod("{volumes: [{name: more, image: {reference: registry.example.com/more}}]}"))
	c.rules(t, "an image", "", func() error {
		options := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
		made, err := c.argo.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("shop").Create(t.Context(), image, options)
		if err != nil && strings.Contains(err.Error(), refused) {
			return nil
		}
		if list, _, _ := unstructured.NestedSlice(made.Object, "spec", "template", "spec", "volumes"); err == nil && len(list) > 0 {
			return fmt.Errorf("got %v", list)
		}
		return err
	})
	c.setup(t, Options{}, "v.image", "v.configMap")
	known := c.edited(t, "Deployment shop-canary", pod("{volumes: [{name: more, configMap: {name: more}}]}"))
	c.rules(t, "a kind that is known", refused, func() error { return create(t.Context(), c.argo, known) })
	c.setup(t, Options{})
	c.rules(t, "the same as rendered", "", func() error { return create(t.Context(), c.argo, known) })
}

// setup applies the policies anew, with other options or another text.
func (c *court) setup(t *testing.T, o Options, oldnew ...string) {
	t.Helper()
	text := strings.NewReplacer(oldnew...).Replace(string(rendered(t, "replicas", o)["setup/admission.yaml"]))
	for doc := range strings.SplitSeq(text, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &o.Object); err != nil {
			t.Fatal(err)
		}
		kind, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
		if _, err := c.admin.Resource(kind).Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "setup", Force: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// instance shows that a commit cannot pass for another service where Argo CD knows
// its own by another label, which it writes over whatever the commit says there.
func (c *court) instance(t *testing.T) {
	const key = "argocd.argoproj.io/instance"
	c.setup(t, Options{InstanceLabel: key})
	for name, tt := range map[string]struct{ labels, want string }{
		"a forged mark":        {"{" + key + ": shop, app.kubernetes.io/instance: blog}", "nothing else that has pods"},
		"another one's":        {"{" + key + ": blog}", ""},
		"another one's, named": {"{" + key + ": blog, app.kubernetes.io/instance: shop}", ""},
	} {
		o := c.edited(t, "Deployment shop-stable", "{metadata: {name: more, labels: "+tt.labels+"}}")
		c.rules(t, name, tt.want, func() error { return create(t.Context(), c.argo, o) })
	}
}

// keeps shows that settings of what runs may change, whatever was noted since.
func (c *court) keeps(t *testing.T) {
	deployments := c.argo.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}).Namespace("shop")
	if _, err := deployments.Create(t.Context(), c.objects["Deployment shop-stable"], metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	other := "sha256:" + strings.Repeat("4", 64)
	c.note(t, "admitted", other)
	c.note(t, "passed", other)
	patch := func(body string) func() error {
		return func() error {
			_, err := deployments.Patch(t.Context(), "shop-stable", types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{})
			return err
		}
	}
	image := strings.Replace(shopRef, "333", "555", 1)
	c.rules(t, "another image", "have not passed it", patch(`{"spec":{"template":{"spec":{"containers":[{"name":"shop","image":"`+image+`"}]}}}}`))
	c.rules(t, "more pods", "", patch(`{"spec":{"replicas":7}}`))
	c.rules(t, "the image that has passed since", "", patch(`{"spec":{"template":{"spec":{"containers":[{"name":"shop","image":"registry.example.com/team/shop:1.3.0@`+other+`"}]}}}}`))
}

// application shows what the account of the hooks may do to it.
func (c *court) application(t *testing.T) {
	applications := func(client dynamic.Interface) dynamic.ResourceInterface {
		return client.Resource(schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}).Namespace("argocd")
	}
	for name, tt := range map[string]struct {
		client dynamic.Interface
		patch  string
		want   string
	}{
		"a verdict":                 {c.hooks, `{"metadata":{"annotations":{"sluice.dev/verdict":"pass"}},"status":{"conditions":[]}}`, ""},
		"another project":           {c.hooks, `{"spec":{"project":"default"}}`, "may not change what an Application asks for"},
		"another repository":        {c.hooks, `{"spec":{"source":{"repoURL":"https://git.example.com/evil.git"}}}`, "may not change"},
		"a sync of another content": {c.hooks, `{"operation":{"sync":{"revision":"evil"}}}`, "may not change"},
		"a sync by a person":        {c.admin, `{"operation":{"sync":{"revision":"main"}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c.rules(t, name, tt.want, func() error {
				_, err := applications(tt.client).Patch(t.Context(), "shop", types.MergePatchType, []byte(tt.patch), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
				return err
			})
		})
	}
}

// settings shows that hooks find what was rendered where they look for it, and
// that they may not change it.
func (c *court) settings(t *testing.T) {
	o := &unstructured.Unstructured{}
	text, _, _ := strings.Cut(string(rendered(t, "replicas", Options{Rules: map[string][]byte{"rules/days.rego": []byte("package lib.days\n")}})["setup/settings.yaml"]), "\n---\n")
	if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
		t.Fatal(err)
	}
	maps := schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	if _, err := c.admin.Resource(maps).Namespace("argocd").Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "setup", Force: true}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s, err := hooks.Fetch(t.Context(), c.account, "argocd/shop-shop-sluice", dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Git != gitDir || s.Etcd != etcdDir || s.PublicKey != filepath.Join(dir, keyFile) || s.TrustedRoot != filepath.Join(dir, rootFile) || s.Config.Name != "shop" {
		t.Errorf("hooks look elsewhere: %+v", s)
	}
	for name, want := range map[string]string{keyFile: "key", "rules/days.rego": "package lib.days\n"} {
		if got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name))); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, err = c.hooks.Resource(maps).Namespace("argocd").Patch(t.Context(), o.GetName(), types.MergePatchType, []byte(`{"data":{"cosign.pub":""}}`), metav1.PatchOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("the hooks write their settings: %v", err)
	}
}
