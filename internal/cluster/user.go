package cluster

import (
	"context"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// User returns the configuration of a user with a client certificate, who may do
// only what RBAC gives to the name or the groups.
func (p *Plane) User(t testing.TB, name string, groups ...string) *rest.Config {
	t.Helper()
	_, cfg, err := p.server.authority.kubeconfig("user-"+name, p.server.url(), name, groups...)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// ServiceAccount makes a service account, and the namespace if there is none,
// and returns a configuration with a token of it that is good for an hour.
func (p *Plane) ServiceAccount(t testing.TB, namespace, name string) *rest.Config {
	t.Helper()
	cfg, err := serviceAccount(t.Context(), p.Config, namespace, name)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func serviceAccount(ctx context.Context, admin *rest.Config, namespace, name string) (*rest.Config, error) {
	client, err := dynamic.NewForConfig(admin)
	if err != nil {
		return nil, fmt.Errorf("making service account %s/%s: %w", namespace, name, err)
	}
	core := schema.GroupVersion{Version: "v1"}
	named := func(kind, name string) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": kind, "metadata": map[string]any{"name": name}}}
	}
	_, err = client.Resource(core.WithResource("namespaces")).Create(ctx, named("Namespace", namespace), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("making namespace %s: %w", namespace, err)
	}
	accounts := client.Resource(core.WithResource("serviceaccounts")).Namespace(namespace)
	_, err = accounts.Create(ctx, named("ServiceAccount", name), metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return nil, fmt.Errorf("making service account %s/%s: %w", namespace, name, err)
	}
	request := named("TokenRequest", name)
	request.SetAPIVersion("authentication.k8s.io/v1")
	answer, err := accounts.Create(ctx, request, metav1.CreateOptions{}, "token")
	if err != nil {
		return nil, fmt.Errorf("asking for a token of service account %s/%s: %w", namespace, name, err)
	}
	token, found, err := unstructured.NestedString(answer.Object, "status", "token")
	if err != nil || !found {
		return nil, fmt.Errorf("asking for a token of service account %s/%s: the answer has none", namespace, name)
	}
	cfg := rest.AnonymousClientConfig(admin)
	cfg.BearerToken = token
	return cfg, nil
}
