package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
)

// Apply applies documents of YAML; see the function [Apply].
func (p *Plane) Apply(t testing.TB, namespace string, documents ...string) {
	t.Helper()
	if err := Apply(t.Context(), p.Config, namespace, documents...); err != nil {
		t.Fatal(err)
	}
}

// Apply applies YAML by server-side apply, every text holding one or more
// documents, in their order. Objects that belong into a namespace and name none
// go into namespace. After definitions of custom resources it waits until these
// are served.
func Apply(ctx context.Context, cfg *rest.Config, namespace string, documents ...string) error {
	objects, err := parse(documents)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return fmt.Errorf("applying: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(cfg)
	if err != nil {
		return fmt.Errorf("applying: %w", err)
	}
	a := &applier{client: client, namespace: namespace, mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))}
	for _, o := range objects {
		if err := a.apply(ctx, o); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return a.settle(ctx)
}

func parse(documents []string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, text := range documents {
		for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
			var o unstructured.Unstructured
			if err := d.Decode(&o.Object); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("reading YAML: %w", err)
			}
			if len(o.Object) > 0 {
				objects = append(objects, &o)
			}
		}
	}
	return objects, nil
}

// An applier remembers the definitions of custom resources that it applied, to
// wait for them together.
type applier struct {
	client    dynamic.Interface
	mapper    meta.ResettableRESTMapper
	namespace string
	defined   []string
}

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func (a *applier) apply(ctx context.Context, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind()
	if kind.Kind == "CustomResourceDefinition" {
		a.defined = append(a.defined, o.GetName())
	} else if err := a.settle(ctx); err != nil {
		return err
	}
	var mapping *meta.RESTMapping
	// A definition that is established is served a moment later.
	err := until(ctx, 10*time.Second, func() (err error) {
		mapping, err = a.mapper.RESTMapping(kind.GroupKind(), kind.Version)
		return err
	}, meta.IsNoMatchError)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.GetNamespace() == "" {
			o.SetNamespace(a.namespace)
		}
		resource = a.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	_, err = resource.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "sluice-cluster", Force: true})
	return err
}

// settle waits until the definitions that were applied are served.
func (a *applier) settle(ctx context.Context) error {
	for _, name := range a.defined {
		err := until(ctx, 30*time.Second, func() error {
			now, err := a.client.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			return conditionTrue(now, "Established")
		}, func(error) bool { return true })
		if err != nil {
			return fmt.Errorf("waiting for definition %s: %w", name, err)
		}
	}
	if len(a.defined) > 0 {
		a.defined = nil
		a.mapper.Reset()
	}
	return nil
}

// until tries again while retry says so of the error, at most for limit.
func until(ctx context.Context, limit time.Duration, try func() error, retry func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try()
		if err == nil || !retry(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (waited %v)", err, limit)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// missing tells whether the API answered that an object does not exist.
func missing(err error) bool { return apierrors.IsNotFound(err) }
