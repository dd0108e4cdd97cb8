package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// The kinds that scenarios look at or tamper with.
var (
	kindApplication = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}
	kindConfigMap   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	kindDaemonSet   = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "daemonsets"}
	kindDeployment  = schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "deployments"}
	kindPod         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	kindRoleBinding = schema.GroupVersionResource{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "rolebindings"}
	kindRoute       = schema.GroupVersionResource{Group: "gateway.networking.k8s.io", Version: "v1", Resource: "httproutes"}
	kindService     = schema.GroupVersionResource{Version: "v1", Resource: "services"}
)

// kube is an administrator of the cluster.
type kube struct {
	rest *rest.Config
	dynamic.Interface
}

func newKube(cfg *rest.Config) (*kube, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout, cfg.QPS = 10*time.Second, -1
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing a client of the API server: %w", err)
	}
	return &kube{rest: cfg, Interface: d}, nil
}

// get reads an object; one that does not exist is nil.
func (k *kube) get(ctx context.Context, kind schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := k.Resource(kind).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s %s/%s: %w", kind.Resource, namespace, name, err)
	}
	return u, nil
}

// need reads an object that has to exist.
func (k *kube) need(ctx context.Context, kind schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	u, err := k.get(ctx, kind, namespace, name)
	if err == nil && u == nil {
		err = fmt.Errorf("there is no %s %s/%s", kind.Resource, namespace, name)
	}
	return u, err
}

// list reads objects by their labels, sorted by name.
func (k *kube) list(ctx context.Context, kind schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	l, err := k.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, fmt.Errorf("listing %s in %s: %w", kind.Resource, namespace, err)
	}
	slices.SortFunc(l.Items, func(a, b unstructured.Unstructured) int { return strings.Compare(a.GetName(), b.GetName()) })
	return l.Items, nil
}

// patch merges JSON into an object.
func (k *kube) patch(ctx context.Context, kind schema.GroupVersionResource, namespace, name string, patch any) error {
	raw, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	_, err = k.Resource(kind).Namespace(namespace).Patch(ctx, name, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: "e2e"})
	if err != nil {
		return fmt.Errorf("patching %s %s/%s: %w", kind.Resource, namespace, name, err)
	}
	return nil
}

// remove deletes an object; that it does not exist is fine.
func (k *kube) remove(ctx context.Context, kind schema.GroupVersionResource, namespace, name string, grace *int64) error {
	err := k.Resource(kind).Namespace(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: grace})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting %s %s/%s: %w", kind.Resource, namespace, name, err)
	}
	return nil
}

// evict asks for a pod to go, as the drain of a node does.
func (k *kube) evict(ctx context.Context, namespace, pod string) error {
	_, err := k.Resource(kindPod).Namespace(namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "policy/v1", "kind": "Eviction", "metadata": map[string]any{"name": pod, "namespace": namespace},
	}}, metav1.CreateOptions{}, "eviction")
	if err != nil {
		return fmt.Errorf("evicting pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

// text, number and object read a field by its path; what is not there is zero.
func text(u *unstructured.Unstructured, path ...string) string {
	if u == nil {
		return ""
	}
	s, _, _ := unstructured.NestedString(u.Object, path...)
	return s
}

func number(u *unstructured.Unstructured, path ...string) int64 {
	if u == nil {
		return 0
	}
	n, _, _ := unstructured.NestedInt64(u.Object, path...)
	return n
}

func slice(u *unstructured.Unstructured, path ...string) []map[string]any {
	if u == nil {
		return nil
	}
	list, _, _ := unstructured.NestedSlice(u.Object, path...)
	var out []map[string]any
	for _, v := range list {
		if m, ok := v.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

// containerImage is the image of a Deployment's container.
func containerImage(u *unstructured.Unstructured, container string) string {
	for _, c := range slice(u, "spec", "template", "spec", "containers") {
		if c["name"] == container {
			image, _ := c["image"].(string)
			return image
		}
	}
	return ""
}

// putConfigMap makes or replaces a ConfigMap in the namespace of the probes.
func (k *kube) putConfigMap(ctx context.Context, name string, data map[string][]byte) error {
	binary := map[string]any{}
	for key, value := range data {
		binary[key] = base64.StdEncoding.EncodeToString(value)
	}
	_, err := k.Resource(kindConfigMap).Namespace(probeNamespace).Apply(ctx, name, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name, "namespace": probeNamespace}, "binaryData": binary,
	}}, metav1.ApplyOptions{FieldManager: "e2e", Force: true})
	if err != nil {
		return fmt.Errorf("writing configmap %s: %w", name, err)
	}
	return nil
}
