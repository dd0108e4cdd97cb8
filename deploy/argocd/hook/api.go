package hook

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// The kinds of objects that hooks read or write themselves; the service's own
// are the target's business.
var (
	applications = schema.GroupVersionResource{Group: "argoproj.io", Version: "v1alpha1", Resource: "applications"}
	configMaps   = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
	events       = schema.GroupVersionResource{Version: "v1", Resource: "events"}
	leases       = schema.GroupVersionResource{Group: "coordination.k8s.io", Version: "v1", Resource: "leases"}
	pods         = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
)

// api reads and writes objects. Every call is repeated while the API server is
// away, busy or coming up, until the context ends, or for apiserver.Patience.
type api struct {
	dynamic.Interface
	outage apiserver.Outage
}

func newAPI(cfg *rest.Config) (*api, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.Timeout = 5 * time.Second // of one try
	cfg.WarningHandler = rest.NoWarnings{}
	d, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("preparing a client of the API server: %w", err)
	}
	return &api{Interface: d}, nil
}

// object is one object by its name.
type object struct {
	kind            schema.GroupVersionResource
	namespace, name string
}

func (o object) String() string { return fmt.Sprintf("%s %s/%s", o.kind.Resource, o.namespace, o.name) }

// get reads an object into a typed one and returns it as it is.
func (a *api) get(ctx context.Context, o object, into any) (u *unstructured.Unstructured, err error) {
	err = a.patiently(ctx, "reading "+o.String(), func(ctx context.Context) (err error) {
		u, err = a.Resource(o.kind).Namespace(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
		return err
	})
	if err != nil || into == nil {
		return u, err
	}
	// Not runtime.DefaultUnstructuredConverter: it panics on some types of Argo CD.
	raw, err := u.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		return u, fmt.Errorf("reading %s: %w", o, err)
	}
	return u, nil
}

// list reads the objects that a field selector names.
func (a *api) list(ctx context.Context, kind schema.GroupVersionResource, namespace, fields string) ([]unstructured.Unstructured, error) {
	var found *unstructured.UnstructuredList
	err := a.patiently(ctx, "listing "+kind.Resource, func(ctx context.Context) (err error) {
		found, err = a.Resource(kind).Namespace(namespace).List(ctx, metav1.ListOptions{FieldSelector: fields})
		return err
	})
	if err != nil {
		return nil, err
	}
	return found.Items, nil
}

// create writes a new object.
func (a *api) create(ctx context.Context, o object, typed any) error {
	u, err := unstruct(typed)
	if err != nil {
		return err
	}
	return a.patiently(ctx, "creating "+o.String(), func(ctx context.Context) error {
		_, err := a.Resource(o.kind).Namespace(o.namespace).Create(ctx, u, metav1.CreateOptions{FieldManager: apiserver.Manager})
		return err
	})
}

// update replaces an object. One that has changed since it was read is a
// conflict.
func (a *api) update(ctx context.Context, o object, typed any) error {
	u, err := unstruct(typed)
	if err != nil {
		return err
	}
	return a.patiently(ctx, "writing "+o.String(), func(ctx context.Context) error {
		_, err := a.Resource(o.kind).Namespace(o.namespace).Update(ctx, u, metav1.UpdateOptions{FieldManager: apiserver.Manager})
		return err
	})
}

// merge patches an object.
func (a *api) merge(ctx context.Context, o object, patch any) error {
	raw, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encoding a patch: %w", err)
	}
	return a.patiently(ctx, "patching "+o.String(), func(ctx context.Context) error {
		_, err := a.Resource(o.kind).Namespace(o.namespace).Patch(ctx, o.name, types.MergePatchType, raw, metav1.PatchOptions{FieldManager: apiserver.Manager})
		return err
	})
}

func unstruct(typed any) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	raw, err := json.Marshal(typed)
	if err == nil {
		err = u.UnmarshalJSON(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("encoding an object: %w", err)
	}
	return u, nil
}

// patiently repeats what may succeed later.
func (a *api) patiently(ctx context.Context, doing string, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, apiserver.Patience)
	defer cancel()
	err := apiserver.Patiently(ctx, &a.outage, try)
	if err == nil {
		return nil
	}
	said := fmt.Errorf("%s: %w", doing, err)
	if ctx.Err() != nil && a.outage.Passing(err) {
		return &AwayError{said}
	}
	return said
}

// AwayError means that the API server did not answer for so long that a hook
// gave up. The same hook may succeed later.
type AwayError struct{ Err error }

func (e *AwayError) Error() string { return e.Err.Error() }
func (e *AwayError) Unwrap() error { return e.Err }

// Temporary is always true.
func (e *AwayError) Temporary() bool { return true }
