// Package ledger keeps the ledger of a service's rollouts in a ConfigMap of its
// namespace: what there is without an etcd of one's own, which package
// internal/etcd/ledger takes.
//
// A write demands the version that was read, so that two writers never follow the
// same line. It is tried once by this package and again by [release.Shared], which
// alone can tell whether a write whose answer was lost has been done.
package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/release"
)

// limit is how many bytes a ledger has at most; the API server takes 1 MiB. Beyond
// it the oldest rollouts that have ended go, and with them their verdicts: the same
// image may be tried again then.
const limit = 850 << 10

const (
	key   = "ledger.jsonl"      // in the ConfigMap's data
	label = "sluice.dev/ledger" // of the ConfigMap, with the service's name
)

// Open opens the ledger of the service name, the ConfigMap NAME-ledger, and reads it
// once; the first rollout makes it. Several processes may write to it at once. A
// ConfigMap of that name that is somebody else's is an *apiserver.ForeignError, a
// permission that lacks (get, create, patch) an *apiserver.ForbiddenError, damage a
// *release.CorruptError.
func Open(ctx context.Context, cfg *rest.Config, namespace, name string) (*release.Shared, error) {
	if namespace == "" || name == "" {
		return nil, errors.New("a ledger in a cluster needs a namespace and the name of a service")
	}
	a, err := apiserver.New(cfg)
	if err != nil {
		return nil, err
	}
	l := &release.Shared{Place: &place{api: a, namespace: namespace, service: name}, Limit: limit}
	_, err = l.Records(ctx)
	return l, err
}

// place is the ConfigMap. Its version is the resourceVersion, "" as long as
// there is none.
type place struct {
	api                *apiserver.Client
	namespace, service string
	outage             apiserver.Outage
}

func (p *place) name() string { return p.service + "-ledger" }

func (p *place) String() string { return "configmap " + p.namespace + "/" + p.name() }

func (p *place) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(p.namespace) + "/configmaps"
}

// Load reads the ConfigMap.
func (p *place) Load(ctx context.Context) ([]byte, string, error) {
	var m corev1.ConfigMap
	err := p.do(ctx, apiserver.Call{Verb: http.MethodGet, Path: p.path() + "/" + p.name(), Into: &m}, "get")
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	case m.Labels[label] != p.service:
		return nil, "", &apiserver.ForeignError{Object: "configmap " + p.name(), Owner: owner(m), Lacks: label + "=" + p.service}
	}
	return []byte(m.Data[key]), m.ResourceVersion, nil
}

func owner(m corev1.ConfigMap) string {
	for _, by := range m.ManagedFields {
		return by.Manager
	}
	return "somebody else"
}

// Save writes the ConfigMap, if it still has this version. What others have
// added to it, such as annotations, stays.
func (p *place) Save(ctx context.Context, version string, next []byte) error {
	m := corev1.ConfigMap{Data: map[string]string{key: string(next)}}
	m.APIVersion, m.Kind, m.Name, m.Namespace, m.ResourceVersion = "v1", "ConfigMap", p.name(), p.namespace, version
	m.Labels = map[string]string{
		label: p.service, "app.kubernetes.io/managed-by": apiserver.Manager, "app.kubernetes.io/part-of": p.service,
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", p, err)
	}
	c := apiserver.Call{
		Verb: http.MethodPatch, Path: p.path() + "/" + p.name(), Query: url.Values{"fieldManager": {apiserver.Manager}},
		Kind: "application/merge-patch+json", Body: body,
	}
	verb := "patch"
	if version == "" {
		c.Verb, c.Path, c.Kind, verb = http.MethodPost, p.path(), "application/json", "create"
	}
	err = p.do(ctx, c, verb)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || version != "" && apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", release.ErrConflict, err)
	}
	return err
}

// do makes a call once: whether a write may be repeated depends on what became
// of it, which only the ledger can tell.
func (p *place) do(ctx context.Context, c apiserver.Call, verb string) error {
	err := p.api.Once(ctx, c)
	switch {
	case err == nil:
		return nil
	case p.outage.Passing(err):
		return &awayError{err}
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot "+verb+" resource"):
		permission := apiserver.Permission{Verb: verb, Resource: "configmaps"}
		if verb != "create" {
			permission.Name = p.name()
		}
		return &apiserver.ForbiddenError{Namespace: p.namespace, Missing: []apiserver.Permission{permission}}
	}
	return err
}

// awayError is the answer, or none, of an API server that may be back soon.
type awayError struct{ err error }

func (e *awayError) Error() string   { return e.err.Error() }
func (e *awayError) Unwrap() error   { return e.err }
func (e *awayError) Temporary() bool { return true }
