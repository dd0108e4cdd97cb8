package drift

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/k8s/ledger"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// lab is the control plane that the tests share.
var lab struct {
	once  sync.Once
	plane *cluster.Plane
	dir   string
	err   error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if lab.plane != nil {
		lab.plane.Stop()
	}
	_ = os.RemoveAll(lab.dir)
	os.Exit(code)
}

func controlPlane(t *testing.T) *cluster.Plane {
	t.Helper()
	lab.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if lab.dir, lab.err = os.MkdirTemp("", "sluice-drift-"); lab.err != nil {
			return
		}
		if lab.plane, lab.err = cluster.StartPlane(ctx, lab.dir, func(line string) { t.Log(line) }); lab.err == nil {
			lab.plane.GatewayAPI(t)
			lab.plane.ArgoCD(t)
		}
	})
	if lab.err != nil {
		t.Fatal(lab.err)
	}
	return lab.plane
}

var worlds atomic.Int32

// world is a service at rest on two nodes: its objects, its repository, its
// ledger, and what its probes say.
type world struct {
	t        *testing.T
	plane    *cluster.Plane
	api      dynamic.Interface
	ns       string
	settings hook.Settings
	git      string // work tree

	mu     sync.Mutex
	answer map[string]wire.Status // by the address of the node; none: 500
}

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-stable}
spec:
  replicas: 2
  selector: {matchLabels: {app.kubernetes.io/name: shop, sluice.dev/track: stable}}
  template:
    metadata: {labels: {app.kubernetes.io/name: shop, sluice.dev/track: stable}}
    spec: {containers: [{name: shop, image: "IMAGE"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-canary}
spec:
  replicas: 0
  selector: {matchLabels: {app.kubernetes.io/name: shop, sluice.dev/track: canary}}
  template:
    metadata: {labels: {app.kubernetes.io/name: shop, sluice.dev/track: canary}}
    spec: {containers: [{name: shop, image: "IMAGE"}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop}
spec:
  parentRefs: [{name: web, namespace: infra}]
  rules:
  - matches: [{headers: [{name: x-env, value: canary}]}]
    backendRefs: [{name: shop-stable, port: 80, weight: 100}, {name: shop-canary, port: 80, weight: 0}]
  - backendRefs: [{name: shop-stable, port: 80, weight: 100}, {name: shop-canary, port: 80, weight: 0}]
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  project: default
  source: {repoURL: "REPOSITORY", path: deploy/shop, targetRevision: main}
  destination: {server: https://kubernetes.default.svc, namespace: shop}
  syncPolicy: {automated: {selfHeal: true}}
`

// rights are those that Reader documents.
const rights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: drift}
rules:
- {apiGroups: [argoproj.io], resources: [applications], resourceNames: [shop], verbs: [get]}
- {apiGroups: [apps], resources: [deployments], resourceNames: [shop-stable, shop-canary], verbs: [get]}
- {apiGroups: [gateway.networking.k8s.io], resources: [httproutes], resourceNames: [shop], verbs: [get]}
- {apiGroups: [""], resources: [configmaps], resourceNames: [shop-ledger], verbs: [get]}
- {apiGroups: [""], resources: [pods], verbs: [list]}
- {apiGroups: [batch], resources: [jobs], verbs: [list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: drift}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: drift}
subjects: [{kind: ServiceAccount, name: looker}]
`

const settings = `
name: shop
build: {main: ./app}
service: {port: 8080}
publish: {registry: registry.example.com/team/shop}
deploy:
  target: kubernetes
  kubernetes:
    namespace: %[1]s
    replicas: 2
    traffic: httproute
    gateway: infra/web
    header: "x-env: canary"
    probe: {namespace: %[1]s, port: %[2]d}
  argocd: {namespace: %[1]s, repository: "https://git.example.com/shop.git", path: deploy/shop}
`

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Need(t, "git")
	w := &world{t: t, plane: controlPlane(t), ns: fmt.Sprintf("drift-%d", worlds.Add(1)), answer: map[string]wire.Status{}}
	var err error
	if w.api, err = dynamic.NewForConfig(w.plane.Config); err != nil {
		t.Fatal(err)
	}
	url, commit := w.repository()
	file := filepath.Join(t.TempDir(), "sluice.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, settings, w.ns, w.listen()), 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Deploy.ArgoCD.Repository = url
	w.settings = hook.Settings{Config: cfg, App: "shop", AppNamespace: w.ns}
	w.plane.Apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+w.ns+"}")
	w.plane.Apply(t, w.ns, strings.NewReplacer("IMAGE", good, "REPOSITORY", url).Replace(manifests), rights)
	w.status(deployments, "shop-stable", map[string]any{"observedGeneration": 99, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2})
	w.patch(applications, "shop", map[string]any{"status": map[string]any{
		"sync":         map[string]any{"status": "Synced", "revision": commit},
		"health":       map[string]any{"status": "Healthy"},
		"reconciledAt": time.Now().UTC().Format(time.RFC3339),
	}})
	for i := 1; i <= 2; i++ {
		w.pod(fmt.Sprintf("shop-%d", i), i, "{app.kubernetes.io/name: shop, sluice.dev/track: stable}")
		w.pod(fmt.Sprintf("sluice-probe-%d", i), i, "{app.kubernetes.io/name: sluice-probe}")
		w.says(i, object, "")
	}
	w.promote("1.0.0", good)
	return w
}

// repository makes a repository with one commit on main.
func (w *world) repository() (url, commit string) {
	w.git = filepath.Join(w.t.TempDir(), "shop")
	if err := os.Mkdir(w.git, 0o755); err != nil {
		w.t.Fatal(err)
	}
	w.command("init", "-q", "-b", "main")
	return "file://" + w.git, w.commit("release 1.0.0")
}

func (w *world) commit(message string) string {
	w.command("-c", "user.name=jane", "-c", "user.email=jane@example.com", "commit", "-q", "--allow-empty", "-m", message)
	return w.command("rev-parse", "HEAD")
}

func (w *world) command(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = w.git
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// listen serves the daemons of both nodes, 127.0.0.1 and 127.0.0.2, on one port.
func (w *world) listen() (port int) {
	for i := 1; i <= 2; i++ {
		ip := fmt.Sprintf("127.0.0.%d", i)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", ip, port))
		if err != nil {
			w.t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			w.mu.Lock()
			defer w.mu.Unlock()
			status, ok := w.answer[ip]
			if !ok {
				wire.WriteError(rw, http.StatusInternalServerError, fmt.Errorf("out of order"))
				return
			}
			rw.Header().Set("Content-Type", wire.MediaType)
			_, _ = rw.Write(wire.Encode(nil, &status))
		}))
		_ = s.Listener.Close()
		s.Listener = l
		s.Start()
		w.t.Cleanup(s.Close)
	}
	return port
}

// says lets the daemon of a node answer; without an object it is out of order.
func (w *world) says(node int, object, mismatch string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ip := fmt.Sprintf("127.0.0.%d", node)
	delete(w.answer, ip)
	if object != "" {
		s := wire.Status{Node: fmt.Sprintf("node-%d", node), Start: wire.Start{Boot: "b", Loaded: noon}, Loaded: bpf.Loaded{Digest: bpf.Digest(object)}, Mismatch: mismatch}
		s.At = time.Now()
		w.answer[ip] = s
	}
}

func (w *world) pod(name string, node int, labels string) {
	w.t.Helper()
	w.plane.Apply(w.t, w.ns, fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: %s}\nspec: {nodeName: node-%d, containers: [{name: c, image: example.com/c}]}", name, labels, node))
	w.ready(name, node, "True")
}

func (w *world) ready(pod string, node int, is string) {
	w.t.Helper()
	ip := fmt.Sprintf("127.0.0.%d", node)
	w.status(pods, pod, map[string]any{
		"phase": "Running", "podIP": ip, "podIPs": []any{map[string]any{"ip": ip}},
		"conditions": []any{map[string]any{"type": "Ready", "status": is}},
	})
}

func (w *world) patch(kind schema.GroupVersionResource, name string, patch any, subresource ...string) {
	w.t.Helper()
	raw, err := json.Marshal(patch)
	if err == nil {
		_, err = w.api.Resource(kind).Namespace(w.ns).Patch(w.t.Context(), name, types.MergePatchType, raw, metav1.PatchOptions{}, subresource...)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(kind schema.GroupVersionResource, name string, status map[string]any) {
	w.t.Helper()
	w.patch(kind, name, map[string]any{"status": status}, "status")
}

// promote enters a release into the ledger; without an image it stays open.
func (w *world) promote(version, image string) {
	w.t.Helper()
	log, err := ledger.Open(w.t.Context(), w.plane.Config, w.ns, "shop")
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := log.Start(w.t.Context(), release.Rollout{Name: "shop", Version: version, Image: image, Object: object, Started: time.Now()})
	if err == nil && image != "" {
		err = log.Finish(w.t.Context(), id, release.Result{Outcome: release.Promoted, Verdict: "pass", Ended: time.Now()})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(kind schema.GroupVersionResource, name string) {
	w.t.Helper()
	if err := w.api.Resource(kind).Namespace(w.ns).Delete(w.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		w.t.Fatal(err)
	}
}
