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
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(found))
	for _, o := range objects {
		if err := applyOne(ctx, client, mapper, namespace, o); err != nil {
			return fmt.Errorf("applying %s %s: %w", o.GetKind(), o.GetName(), err)
		}
	}
	return nil
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

func applyOne(ctx context.Context, client dynamic.Interface, mapper meta.RESTMapper, namespace string, o *unstructured.Unstructured) error {
	kind := o.GroupVersionKind()
	var mapping *meta.RESTMapping
	// A definition that is established is served a moment later.
	err := until(ctx, 10*time.Second, func() (err error) {
		mapping, err = mapper.RESTMapping(kind.GroupKind(), kind.Version)
		return err
	}, meta.IsNoMatchError)
	if err != nil {
		return err
	}
	var resource dynamic.ResourceInterface = client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		if o.GetNamespace() == "" {
			o.SetNamespace(namespace)
		}
		resource = client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	if _, err = resource.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: "sluice-cluster", Force: true}); err != nil {
		return err
	}
	if kind.Kind != "CustomResourceDefinition" {
		return nil
	}
	err = until(ctx, 30*time.Second, func() error {
		now, err := resource.Get(ctx, o.GetName(), metav1.GetOptions{})
		if err != nil {
			return err
		}
		return conditionTrue(now, "Established")
	}, func(error) bool { return true })
	if reset, ok := mapper.(meta.ResettableRESTMapper); ok {
		reset.Reset()
	}
	return err
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
