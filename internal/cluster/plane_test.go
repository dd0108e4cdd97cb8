package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

var configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}

func client(t *testing.T, cfg *rest.Config) dynamic.Interface {
	t.Helper()
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestControlPlane(t *testing.T) {
	began := time.Now()
	p := ControlPlane(t)
	t.Logf("up after %v", time.Since(began))
	p.Apply(t, "default", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n")

	t.Run("keeps what was acknowledged over a crash, on the same address", func(t *testing.T) {
		if err := p.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := client(t, p.Config).Resource(configMaps).Namespace("default").Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("gives users only what RBAC gives them", func(t *testing.T) {
		p.Apply(t, "default", `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects:
- {kind: User, name: jane, apiGroup: rbac.authorization.k8s.io}
- {kind: ServiceAccount, name: robot, namespace: robots}
`)
		for name, cfg := range map[string]*rest.Config{"a user": p.User(t, "jane"), "a service account": p.ServiceAccount(t, "robots", "robot")} {
			maps := client(t, cfg).Resource(configMaps).Namespace("default")
			if _, err := maps.Get(t.Context(), "kept", metav1.GetOptions{}); err != nil {
				t.Errorf("%s may read: %v", name, err)
			}
			if err := maps.Delete(t.Context(), "kept", metav1.DeleteOptions{}); !apierrors.IsForbidden(err) {
				t.Errorf("%s may not delete, but: %v", name, err)
			}
		}
	})
	t.Run("serves the Gateway API and Argo CD's resources once installed", func(t *testing.T) {
		p.GatewayAPI(t)
		p.ArgoCD(t)
		p.Apply(t, "default", `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec: {rules: [{backendRefs: [{name: web-stable, port: 80, weight: 10000}, {name: web-canary, port: 80, weight: 0}]}]}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: web}
spec: {project: default, source: {repoURL: "http://example.invalid/x.git", path: .}, destination: {namespace: default}}
`)
	})
	t.Run("makes pods of Deployments once the controllers run", func(t *testing.T) {
		if err := p.Controllers(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Apply(t, "default", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: web, image: web}]}}
`)
		pods := client(t, p.Config).Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("default")
		err := until(t.Context(), 20*time.Second, func() error {
			list, err := pods.List(t.Context(), metav1.ListOptions{})
			if err == nil && len(list.Items) != 2 {
				err = fmt.Errorf("%d pods, want 2", len(list.Items))
			}
			return err
		}, func(error) bool { return true })
		if err != nil {
			t.Error(err)
		}
	})
}

// Policies tell Argo CD from people by what it is for the API server.
func TestArgoCDIsAServiceAccount(t *testing.T) {
	p := ControlPlane(t)
	c := client(t, p.User(t, argoAccount[0], argoAccount[1:]...))
	review := schema.GroupVersionResource{Group: "authentication.k8s.io", Version: "v1", Resource: "selfsubjectreviews"}
	u, err := c.Resource(review).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := unstructured.NestedString(u.Object, "status", "userInfo", "username")
	groups, _, _ := unstructured.NestedStringSlice(u.Object, "status", "userInfo", "groups")
	if name != "system:serviceaccount:argocd:argocd-application-controller" || !slices.Contains(groups, "system:serviceaccounts:argocd") {
		t.Errorf("it is %s of %q", name, groups)
	}
}
