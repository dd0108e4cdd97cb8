package k8s

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

	"github.com/sluice-cd/sluice/internal/release"
)

// ledgerLimit is how many bytes a ledger in a ConfigMap has at most; the API
// server takes 1 MiB. Beyond it the oldest rollouts that have ended go, and with them
// their verdicts: the same image may be tried again then.
const ledgerLimit = 850 << 10

const (
	ledgerKey   = "ledger.jsonl"      // in the ConfigMap's data
	ledgerLabel = "sluice.dev/ledger" // of the ConfigMap, with the service's name
)

// OpenLedger opens the ledger of the service name: the ConfigMap NAME-ledger,
// made by the first rollout. Several processes may write to it at once. A
// ConfigMap of that name that is somebody else's is a *ForeignError, a permission
// that lacks (get, create, patch) a *ForbiddenError, damage a
// *release.CorruptError.
func OpenLedger(ctx context.Context, cfg *rest.Config, namespace, name string) (*release.Shared, error) {
	if namespace == "" || name == "" {
		return nil, errors.New("a ledger in a cluster needs a namespace and the name of a service")
	}
	a, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	l := &release.Shared{Place: &ledgerPlace{api: a, namespace: namespace, service: name}, Limit: ledgerLimit}
	_, err = l.Records(ctx)
	return l, err
}

// ledgerPlace is the ConfigMap. Its version is the resourceVersion, "" as long as
// there is none.
type ledgerPlace struct {
	api                *api
	namespace, service string
	outage             Outage
}

func (p *ledgerPlace) name() string { return p.service + "-ledger" }

func (p *ledgerPlace) String() string { return "configmap " + p.namespace + "/" + p.name() }

func (p *ledgerPlace) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(p.namespace) + "/configmaps"
}

// Load reads the ConfigMap.
func (p *ledgerPlace) Load(ctx context.Context) ([]byte, string, error) {
	var m corev1.ConfigMap
	err := p.do(ctx, call{verb: http.MethodGet, path: p.path() + "/" + p.name(), into: &m}, "get")
	switch {
	case apierrors.IsNotFound(err):
		return nil, "", nil
	case err != nil:
		return nil, "", err
	case m.Labels[ledgerLabel] != p.service:
		return nil, "", &ForeignError{Object: "configmap " + p.name(), Owner: ledgerOwner(m), Lacks: ledgerLabel + "=" + p.service}
	}
	return []byte(m.Data[ledgerKey]), m.ResourceVersion, nil
}

func ledgerOwner(m corev1.ConfigMap) string {
	for _, by := range m.ManagedFields {
		return by.Manager
	}
	return "somebody else"
}

// Save writes the ConfigMap, if it still has this version. What others have
// added to it, such as annotations, stays.
func (p *ledgerPlace) Save(ctx context.Context, version string, next []byte) error {
	m := corev1.ConfigMap{Data: map[string]string{ledgerKey: string(next)}}
	m.APIVersion, m.Kind, m.Name, m.Namespace, m.ResourceVersion = "v1", "ConfigMap", p.name(), p.namespace, version
	m.Labels = map[string]string{
		ledgerLabel: p.service, "app.kubernetes.io/managed-by": Manager, "app.kubernetes.io/part-of": p.service,
	}
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", p, err)
	}
	c := call{
		verb: http.MethodPatch, path: p.path() + "/" + p.name(), query: url.Values{"fieldManager": {Manager}},
		kind: "application/merge-patch+json", body: body,
	}
	verb := "patch"
	if version == "" {
		c.verb, c.path, c.kind, verb = http.MethodPost, p.path(), "application/json", "create"
	}
	err = p.do(ctx, c, verb)
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || version != "" && apierrors.IsNotFound(err) {
		return fmt.Errorf("%w: %w", release.ErrConflict, err)
	}
	return err
}

// do makes a call once: whether a write may be repeated depends on what became
// of it, which only the ledger can tell.
func (p *ledgerPlace) do(ctx context.Context, c call, verb string) error {
	err := p.api.once(ctx, c)
	switch {
	case err == nil:
		return nil
	case p.outage.Passing(err):
		return &awayError{err}
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "cannot "+verb+" resource"):
		permission := Permission{Verb: verb, Resource: "configmaps"}
		if verb != "create" {
			permission.Name = p.name()
		}
		return &ForbiddenError{Namespace: p.namespace, Missing: []Permission{permission}}
	}
	return err
}

// awayError is the answer, or none, of an API server that may be back soon.
type awayError struct{ err error }

func (e *awayError) Error() string   { return e.err.Error() }
func (e *awayError) Unwrap() error   { return e.err }
func (e *awayError) Temporary() bool { return true }
