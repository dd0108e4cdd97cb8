package k8s

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/cluster"
)

var worlds atomic.Int32

// patient is how long a test waits for what has to come, on however busy a
// machine.
const patient = 2 * time.Minute

// world is a namespace with a service at rest, as git has it, and what plays its
// nodes.
type world struct {
	t     *testing.T
	plane *cluster.Plane
	svc   Service
	admin *apiserver.Client
	cfg   *rest.Config // of an account with Permissions and nothing else
	nodes *kubelet
}

// newWorld makes a service with two stable pods that are ready.
func newWorld(t *testing.T, s Service) *world {
	t.Helper()
	p := controlPlane(t)
	s.Name, s.Namespace, s.Port = "shop", fmt.Sprintf("world-%d", worlds.Add(1)), 80
	if s.Ready == 0 {
		s.Ready = patient
	}
	w := &world{t: t, plane: p, svc: s}
	var err error
	if w.admin, err = apiserver.New(p.Config); err != nil {
		t.Fatal(err)
	}
	w.cfg = p.ServiceAccount(t, s.Namespace, "shop-sluice")
	p.Apply(t, s.Namespace, role(s), manifests(s))
	w.nodes = startKubelet(t, w.admin, s.Namespace)
	w.await("the stable pods serve", func() bool { return w.endpoints("shop-stable") == 2 })
	return w
}

// open opens the target as the restricted account.
func (w *world) open() *Target {
	w.t.Helper()
	target, err := Open(w.t.Context(), w.cfg, w.svc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(target.Close)
	return target
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patient); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	for _, path := range []string{"/api/v1/namespaces/" + w.svc.Namespace + "/pods", "/apis/discovery.k8s.io/v1/namespaces/" + w.svc.Namespace + "/endpointslices"} {
		var raw json.RawMessage
		_ = w.admin.Get(context.Background(), path, &raw)
		w.t.Log(string(raw))
	}
	w.t.Fatalf("waited in vain until %s", what)
}

// asAdmin is a target with every right, to look with.
func (w *world) asAdmin() *Target { return &Target{svc: w.svc, api: w.admin} }

func (w *world) endpoints(service string) int {
	found, err := w.asAdmin().endpoints(context.Background(), service)
	if err != nil {
		return -1
	}
	return ready(found[service])
}

func (w *world) deployment(name string) *apps.Deployment {
	w.t.Helper()
	d, err := w.asAdmin().deployment(context.Background(), name, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) canaries() int { return replicas(w.deployment("shop-canary")) }

// weights is what the rules of the route say, as "stable:canary".
func (w *world) weights() string {
	w.t.Helper()
	r, err := w.asAdmin().readRoute(context.Background(), true)
	if err != nil {
		w.t.Fatal(err)
	}
	pairs, err := r.pairs(w.svc)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimPrefix(describe(pairs), "divides traffic stable:canary ")
}

// patch is a write of somebody else.
func (w *world) patch(manager, path, body string) {
	w.t.Helper()
	err := w.admin.Do(context.Background(), apiserver.Call{
		Verb: http.MethodPatch, Path: path, Query: map[string][]string{"fieldManager": {manager}},
		Kind: "application/merge-patch+json", Body: []byte(body),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(path string) {
	w.t.Helper()
	if err := w.admin.Do(context.Background(), apiserver.Call{Verb: http.MethodDelete, Path: path}); err != nil {
		w.t.Fatal(err)
	}
}

// image gives the canary a new image, as the sync does in wave 0.
func (w *world) image(tag string) {
	w.t.Helper()
	w.patch("argocd-controller", w.asAdmin().deploymentPath("shop-canary"), `{"spec":{"template":{"spec":{"$patch":"","containers":[{"name":"shop","image":"example.com/shop:`+tag+`","ports":[{"name":"http","containerPort":8080}]}]}}}}`)
}

// quota lets no more than so many pods be made.
func (w *world) quota(pods int) {
	w.t.Helper()
	w.plane.Apply(w.t, w.svc.Namespace, fmt.Sprintf("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: full}\nspec: {hard: {pods: %d}}\n", pods))
	w.await("the quota counts", func() bool {
		var q core.ResourceQuota
		return w.admin.Get(w.t.Context(), w.asAdmin().corePath("resourcequotas/full"), &q) == nil && !q.Status.Used.Pods().IsZero()
	})
}

// untouched checks that the stable Deployment is as git has it.
func (w *world) untouched() {
	w.t.Helper()
	d := w.deployment("shop-stable")
	if d.Generation != 1 || author(d.ObjectMeta, `"f:replicas"`) == apiserver.Manager || replicas(d) != 2 {
		w.t.Errorf("the stable Deployment was touched: generation %d, %d replicas, by %s", d.Generation, replicas(d), author(d.ObjectMeta, `"f:replicas"`))
	}
}

// refused checks that Open says what is wrong, in one line and with advice, as
// the type that is points to.
func (w *world) refused(cfg *rest.Config, s Service, want string, is any) {
	w.t.Helper()
	target, err := Open(w.t.Context(), cfg, s)
	if err == nil {
		target.Close()
		w.t.Fatalf("Open accepts it; want %q", want)
	}
	var hint interface{ Hint() string }
	if !strings.HasPrefix(err.Error(), want) && !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		w.t.Errorf("got  %q\nwant %q", err, want)
	}
	if !errors.As(err, is) || !errors.As(err, &hint) || hint.Hint() == "" {
		w.t.Errorf("%T is not a %T with a hint", err, is)
	}
}

// atRest checks that no trace of a rollout is left.
func (w *world) atRest() {
	w.t.Helper()
	if n := w.canaries(); n != 0 {
		w.t.Errorf("%d canary replicas are left", n)
	}
	if n := w.endpoints("shop-canary"); n != 0 {
		w.t.Errorf("%d canary endpoints are left", n)
	}
	if w.svc.Route {
		if got := strings.ReplaceAll(w.weights(), "100:0", ""); strings.Trim(got, " and") != "" {
			w.t.Errorf("weights %s are left", w.weights())
		}
	}
	w.untouched()
}

// role lets the account do what Permissions says.
func role(s Service) string {
	var b strings.Builder
	fmt.Fprintln(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: shop-sluice}\nrules:")
	for _, p := range s.Permissions() {
		resource, names := p.Resource, ""
		if p.Subresource != "" {
			resource += "/" + p.Subresource
		}
		if p.Name != "" {
			names = ", resourceNames: [" + p.Name + "]"
		}
		fmt.Fprintf(&b, "- {apiGroups: [%q], resources: [%s], verbs: [%s]%s}\n", p.Group, resource, p.Verb, names)
	}
	return b.String() + `
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: shop-sluice}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: shop-sluice}
subjects: [{kind: ServiceAccount, name: shop-sluice, namespace: ` + s.Namespace + `}]
`
}

// manifests is a service as git has it.
func manifests(s Service) string {
	labels := "{app.kubernetes.io/managed-by: sluice, app.kubernetes.io/part-of: shop}"
	var docs []string
	for track, n := range map[string]int{"stable": 2, "canary": 0} {
		pods := "{app.kubernetes.io/name: shop, sluice.dev/track: " + track + "}"
		docs = append(docs, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-%[1]s, labels: %[2]s}
spec:
  replicas: %[3]d
  selector: {matchLabels: %[4]s}
  template:
    metadata: {labels: %[4]s}
    spec: {terminationGracePeriodSeconds: 1, containers: [{name: shop, image: "example.com/shop:1", ports: [{name: http, containerPort: 8080}]}]}
`, track, labels, n, pods), fmt.Sprintf(`
apiVersion: v1
kind: Service
metadata: {name: shop-%s, labels: %s}
spec: {selector: %s, ports: [{name: http, port: 80, targetPort: http}]}
`, track, labels, pods))
	}
	docs = append(docs, `
apiVersion: v1
kind: Service
metadata: {name: shop, labels: `+labels+`}
spec: {selector: {app.kubernetes.io/name: shop}, ports: [{name: http, port: 80, targetPort: http}]}
`)
	if s.Route {
		docs = append(docs, routeManifest(s, labels))
	}
	return strings.Join(docs, "\n---\n")
}

func routeManifest(s Service, labels string) string {
	backends := "backendRefs: [{name: shop-stable, port: 80, weight: 100}, {name: shop-canary, port: 80, weight: 0}]"
	header := ""
	if s.Header {
		header = "\n  - matches: [{headers: [{name: x-env, value: canary}]}]\n    " + backends
	}
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, labels: %s}
spec:
  parentRefs: [{name: web}]
  rules:%s
  - %s
`, labels, header, backends)
}
