package render

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorization "k8s.io/api/authorization/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/cluster"
)

// kustomize runs the real one.
func kustomize(t *testing.T, dir string, args ...string) string {
	t.Helper()
	path, err := cluster.Binary(t.Context(), "kustomize", func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kustomize %v in %s: %v\n%s", args, dir, err, out)
	}
	return string(out)
}

// built returns the objects of a folder.
func built(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	var list []*unstructured.Unstructured
	for _, text := range strings.Split(kustomize(t, ".", "build", dir), "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(text), &o.Object); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

// copied writes rendered files where kustomize may edit them.
func copied(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	var names []string
	for name := range files {
		names = append(names, name+" (missing)")
	}
	if err := update(dir, files, names); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOneEditIsARelease(t *testing.T) {
	dir := copied(t, rendered(t, "httproute", Options{}))
	before := built(t, dir)
	ref := "registry.example.com/team/shop:1.3.0@sha256:" + strings.Repeat("4", 64)
	kustomize(t, dir, "edit", "set", "image", "shop="+ref)
	images, env := map[string]string{}, map[string]string{}
	after := built(t, dir)
	for i, o := range after {
		containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
		for _, c := range containers {
			c := c.(map[string]any)
			images[o.GetName()] = c["image"].(string)
			list, _ := c["env"].([]any)
			for _, e := range list {
				if e := e.(map[string]any); e["name"] == "SLUICE_IMAGE" {
					env[o.GetName()] = e["value"].(string)
				}
			}
		}
		if len(containers) == 0 && !cmp.Equal(before[i].Object, o.Object) {
			t.Errorf("a release changes the %s %s:\n%s", o.GetKind(), o.GetName(), cmp.Diff(before[i].Object, o.Object))
		}
	}
	if diff := cmp.Diff(map[string]string{
		"shop-canary": ref, "shop-stable": ref, "shop-presync": hookRef, "shop-gate": hookRef, "shop-postsync": hookRef, "shop-syncfail": hookRef,
	}, images); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"shop-presync": ref, "shop-gate": ref, "shop-postsync": ref, "shop-syncfail": ref}, env); diff != "" {
		t.Errorf("SLUICE_IMAGE (-want +got):\n%s", diff)
	}
}

// TestTheProjectAllowsWhatIsApplied holds the whitelist against what Argo CD would apply.
func TestTheProjectAllowsWhatIsApplied(t *testing.T) {
	for _, s := range []string{"replicas", "httproute"} {
		applied := map[string]bool{}
		for _, o := range built(t, filepath.Join(samples, s)) {
			applied[o.GroupVersionKind().GroupKind().String()] = true
			if ns := o.GetNamespace(); ns != "shop" {
				t.Errorf("%s %s is in namespace %q", o.GetKind(), o.GetName(), ns)
			}
			if l := o.GetLabels(); l["app.kubernetes.io/managed-by"] != "sluice" || l["app.kubernetes.io/part-of"] != "shop" {
				t.Errorf("%s %s has labels %v", o.GetKind(), o.GetName(), l)
			}
		}
		allowed := map[string]bool{}
		for _, o := range built(t, filepath.Join(samples, s, "setup")) {
			list, _, _ := unstructured.NestedSlice(o.Object, "spec", "namespaceResourceWhitelist")
			for _, k := range list {
				k := k.(map[string]any)
				allowed[schema.GroupKind{Group: k["group"].(string), Kind: k["kind"].(string)}.String()] = true
			}
		}
		if diff := cmp.Diff(applied, allowed); diff != "" {
			t.Errorf("%s (-applied +allowed):\n%s", s, diff)
		}
	}
}

// TestTheAPIServerTakesEverything sends every object to a real API server, which
// refuses unknown fields, and every pod to a namespace that takes only pods
// without privileges.
func TestTheAPIServerTakesEverything(t *testing.T) {
	plane := cluster.ControlPlane(t)
	plane.GatewayAPI(t)
	plane.ArgoCD(t)
	plane.Apply(t, "", namespaces)
	client, err := dynamic.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	folders := []string{"cluster/probe", "replicas/setup", "httproute/setup", "replicas", "httproute"}
	for _, folder := range folders {
		t.Run(folder, func(t *testing.T) {
			for _, o := range built(t, filepath.Join(samples, folder)) {
				taken(t, o, create(t.Context(), client, o))
				if pod := podOf(t, o); pod != nil && folder != "cluster/probe" {
					taken(t, pod, create(t.Context(), client, pod))
				}
			}
		})
	}
	t.Run("and would refuse a slip", func(t *testing.T) { checkRefusals(t, client) })
	t.Run("the hooks may do what they do and no more", func(t *testing.T) { checkRights(t, plane) })
}

// namespaces are there before; that of the service takes only pods without any privilege.
const namespaces = `
apiVersion: v1
kind: Namespace
metadata: {name: argocd}
---
apiVersion: v1
kind: Namespace
metadata: {name: sluice-system}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {pod-security.kubernetes.io/enforce: restricted}}
`

// create tries to create an object: nothing is kept, unknown fields and fields
// given twice are errors.
func create(ctx context.Context, client dynamic.Interface, o *unstructured.Unstructured) error {
	plural, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	options := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict}
	var err error
	if ns := o.GetNamespace(); ns != "" {
		_, err = client.Resource(plural).Namespace(ns).Create(ctx, o, options)
	} else {
		_, err = client.Resource(plural).Create(ctx, o, options)
	}
	return err
}

func taken(t *testing.T, o *unstructured.Unstructured, err error) {
	t.Helper()
	if err != nil && !(o.GetKind() == "Namespace" && apierrors.IsAlreadyExists(err)) {
		t.Errorf("%s %s: %v", o.GetKind(), o.GetName(), err)
	}
}

// podOf returns the pod that an object would make, if it makes any.
func podOf(t *testing.T, o *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	spec, found, err := unstructured.NestedMap(o.Object, "spec", "template", "spec")
	if err != nil {
		t.Fatal(err)
	}
	if !found {
		return nil
	}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": o.GetName(), "namespace": o.GetNamespace()}, "spec": spec,
	}}
}

// checkRefusals shows that what was taken was looked at.
func checkRefusals(t *testing.T, client dynamic.Interface) {
	find := func(folder, kind string) *unstructured.Unstructured {
		for _, o := range built(t, filepath.Join(samples, folder)) {
			if o.GetKind() == kind {
				return o
			}
		}
		t.Fatalf("no %s in %s", kind, folder)
		return nil
	}
	for kind, folder := range map[string]string{"Job": "replicas", "HTTPRoute": "httproute", "Application": "replicas/setup", "AppProject": "replicas/setup"} {
		o := find(folder, kind)
		if err := unstructured.SetNestedField(o.Object, "x", "spec", "slip"); err != nil {
			t.Fatal(err)
		}
		if err := create(t.Context(), client, o); err == nil || !strings.Contains(err.Error(), "slip") {
			t.Errorf("a %s with an unknown field: %v", kind, err)
		}
	}
	pod := podOf(t, find("cluster/probe", "DaemonSet"))
	pod.SetNamespace("shop")
	if err := create(t.Context(), client, pod); !apierrors.IsForbidden(err) {
		t.Errorf("the probe's pod in the namespace of the service: %v", err)
	}
}

// checkRights asks the API server what the account of the hooks may do.
func checkRights(t *testing.T, plane *cluster.Plane) {
	text, err := os.ReadFile(filepath.Join(samples, "httproute", setupDir, "rights.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	plane.Apply(t, "", string(text))
	client, err := dynamic.NewForConfig(plane.Config)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range needed("httproute") {
		expect(t, client, "shop", p, true)
	}
	application := apiserver.Permission{Verb: "patch", Group: "argoproj.io", Resource: "applications", Name: "shop"}
	expect(t, client, "argocd", application, true)
	expect(t, client, "argocd", apiserver.Permission{Verb: "create", Resource: "events"}, true)
	expect(t, client, "sluice-system", apiserver.Permission{Verb: "list", Resource: "pods"}, true)

	application.Name = "other"
	expect(t, client, "argocd", application, false)
	for namespace, list := range map[string][]apiserver.Permission{
		"shop": {
			{Verb: "patch", Group: "apps", Resource: "deployments", Name: "shop-stable"},
			{Verb: "patch", Group: "apps", Resource: "deployments", Subresource: "scale", Name: "shop-stable"},
			{Verb: "patch", Group: "apps", Resource: "deployments", Name: "shop-canary"},
			{Verb: "update", Resource: "configmaps", Name: "shop-sluice"},
			{Verb: "delete", Resource: "configmaps", Name: "shop-ledger"},
			{Verb: "get", Resource: "secrets", Name: "shop-git"},
			{Verb: "create", Resource: "pods"},
			{Verb: "patch", Group: "gateway.networking.k8s.io", Resource: "httproutes", Name: "other"},
		},
		"argocd":        {{Verb: "get", Resource: "secrets"}, {Verb: "list", Group: "argoproj.io", Resource: "applications"}, {Verb: "patch", Group: "argoproj.io", Resource: "appprojects", Name: "shop"}},
		"sluice-system": {{Verb: "create", Resource: "pods", Subresource: "exec"}, {Verb: "delete", Resource: "pods"}},
		"default":       {{Verb: "list", Resource: "pods"}},
	} {
		for _, p := range list {
			expect(t, client, namespace, p, false)
		}
	}
}

// needed is what hooks do in the namespace of the service of a sample.
func needed(sample string) []apiserver.Permission {
	return append(
		(k8s.Service{Name: "shop", Namespace: "shop", Route: sample == "httproute"}).Permissions(), []apiserver.Permission{
			{Verb: "get", Resource: "configmaps", Name: "shop-ledger"},
			{Verb: "patch", Resource: "configmaps", Name: "shop-ledger"},
			{Verb: "get", Resource: "configmaps", Name: "shop-verdict"},
			{Verb: "update", Resource: "configmaps", Name: "shop-verdict"},
			{Verb: "patch", Resource: "configmaps", Name: "shop-admitted"},
			{Verb: "create", Resource: "configmaps"},
			{Verb: "create", Group: "coordination.k8s.io", Resource: "leases"},
			{Verb: "get", Group: "coordination.k8s.io", Resource: "leases", Name: "shop-sluice"},
			{Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Name: "shop-sluice"},
		}...,
	)
}

// TestTheHooksGetWhatTheyNeed compares in both directions what is granted in the
// namespace of the service with what hooks do there.
func TestTheHooksGetWhatTheyNeed(t *testing.T) {
	for name, tt := range map[string]struct {
		sample string
		oldnew []string
		less   string
	}{
		"by replicas":           {"replicas", nil, ""},
		"by weights":            {"httproute", nil, ""},
		"with a ledger in etcd": {"replicas", []string{"replicas: 4", "ledger: {etcd: ['https://etcd.example.com:2379']}"}, "shop-ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			var granted, want []string
			role := find[rbac.Role](t, rendered(t, tt.sample, Options{}, tt.oldnew...), "setup/rights.yaml", "Role", "shop-sluice")
			for _, rule := range role.Rules {
				resource, sub, _ := strings.Cut(rule.Resources[0], "/")
				if len(rule.ResourceNames) == 0 {
					rule.ResourceNames = []string{""}
				}
				for _, verb := range rule.Verbs {
					for _, object := range rule.ResourceNames {
						granted = append(granted, apiserver.Permission{Verb: verb, Group: rule.APIGroups[0], Resource: resource, Subresource: sub, Name: object}.String())
					}
				}
			}
			for _, p := range needed(tt.sample) {
				if tt.less == "" || p.Name != tt.less {
					want = append(want, p.String())
				}
			}
			slices.Sort(granted)
			slices.Sort(want)
			if diff := cmp.Diff(want, granted); diff != "" {
				t.Errorf("rights (-needed +granted):\n%s", diff)
			}
		})
	}
}

// expect waits until a permission is as it should be: the API server learns of
// new roles a moment after they were written.
func expect(t *testing.T, client dynamic.Interface, namespace string, p apiserver.Permission, want bool) {
	t.Helper()
	review := authorization.SubjectAccessReview{Spec: authorization.SubjectAccessReviewSpec{
		User: "system:serviceaccount:shop:shop-sluice", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"},
		ResourceAttributes: &authorization.ResourceAttributes{
			Namespace: namespace, Verb: p.Verb, Group: p.Group, Resource: p.Resource, Subresource: p.Subresource, Name: p.Name,
		},
	}}
	review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SubjectAccessReview"
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&review)
	if err != nil {
		t.Fatal(err)
	}
	reviews := client.Resource(schema.GroupVersionResource{Group: "authorization.k8s.io", Version: "v1", Resource: "subjectaccessreviews"})
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		answer, err := reviews.Create(t.Context(), &unstructured.Unstructured{Object: tree}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		allowed, _, _ := unstructured.NestedBool(answer.Object, "status", "allowed")
		if allowed == want {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("in %s: %s: allowed %v, want %v", namespace, p, allowed, want)
			return
		}
	}
}
