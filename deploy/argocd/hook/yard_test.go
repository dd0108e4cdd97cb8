package hook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/argocd/render"
	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// References of releases: 1.0.0 serves in every yard.
const repo = "registry.example.com/team/shop:"

func ref(version string) string {
	digit := version[2:3]
	return repo + version + "@sha256:" + strings.Repeat(digit, 64)
}

// lab is the control plane that the tests share.
var lab struct {
	once  sync.Once
	plane *cluster.Plane
	dir   string
	err   error
}

func controlPlane(t *testing.T) *cluster.Plane {
	t.Helper()
	lab.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if lab.dir, lab.err = os.MkdirTemp("", "sluice-hook-"); lab.err != nil {
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

// yard is a namespace with a service that serves, as render writes it, its
// Application during a sync, its git repository, and what plays nodes and probe.
type yard struct {
	t     *testing.T
	plane *cluster.Plane
	admin *api
	cfg   *rest.Config // of the hooks' service account, with its rights and nothing else
	s     Settings
	git   string // work tree
	good  string // commit that was synced last
	bad   string // commit that is being synced
	*nodes
}

var yards atomic.Int32

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
    ready: 3s
    probe: {namespace: %[1]s-probes, port: %[2]d, grace: 2s}
    %[3]s
  argocd: {namespace: %[1]s-argocd, repository: %[4]s, path: deploy/shop, secret: shop-git}
  canary:
    steps: [{weight: 10%%, min: 300ms}, {weight: 50%%, min: 300ms}]
    warmup: 200ms
    deadline: 10s
    block: 200ms
`

// newYard makes a yard in which version 1.0.0 serves and 1.1.0 is being synced.
// traffic is added to deploy.kubernetes.
func newYard(t *testing.T, traffic string) *yard {
	t.Helper()
	testenv.Need(t, "git")
	p := controlPlane(t)
	ns := fmt.Sprintf("yard-%d", yards.Add(1))
	w := &yard{t: t, plane: p}
	var err error
	if w.admin, err = newAPI(p.Config); err != nil {
		t.Fatal(err)
	}
	w.nodes = startNodes(t, w.admin, ns)
	dir := filepath.Join(t.TempDir(), "sluice")
	file := fmt.Sprintf(settings, ns, w.port, traffic, w.gitServer())
	write(t, filepath.Join(dir, "sluice.yaml"), file)
	write(t, filepath.Join(dir, "cosign.pub"), publicKey)
	t.Setenv("SLUICE_IMAGE", ref("1.1.0"))
	t.Setenv("POD_NAME", "shop-gate-1")
	if w.s, err = Load(dir); err != nil {
		t.Fatal(err)
	}
	w.s.Termination = filepath.Join(t.TempDir(), "termination-log")
	for _, n := range []string{ns, ns + "-probes", ns + "-argocd"} {
		p.Apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+n+"}\n")
	}
	w.apply(file)
	w.cfg = p.ServiceAccount(t, ns, "shop-sluice")
	w.probePod(ns + "-probes")
	w.sync()
	w.await("the stable pods serve", func() bool { return w.pods("stable") == 2 })
	return w
}

// apply applies what render writes, but for the hooks' Jobs and the policies that
// would keep the tests from playing Argo CD and everybody else.
func (w *yard) apply(file string) {
	w.t.Helper()
	image := "registry.example.com/sluice/sluice-argo:1.0.0@sha256:" + strings.Repeat("9", 64)
	files, err := render.Render(w.s.Config, render.Options{
		HookImage: image, ProbeImage: image, Release: ref("1.0.0"), Config: []byte(file), PublicKey: []byte(publicKey), Only: render.Service,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	var documents []string
	for name, text := range files {
		if strings.HasSuffix(name, ".yaml") && !strings.Contains(name, "kustomization") && !strings.Contains(name, "hooks") && !strings.Contains(name, "admission") {
			documents = append(documents, strings.ReplaceAll(string(text), "image: shop\n", "image: "+ref("1.0.0")+"\n"))
		}
	}
	w.plane.Apply(w.t, w.s.namespace(), documents...)
}

// sync makes the Application look as Argo CD leaves it in the middle of a sync of
// w.bad, with the canary's new image in place.
func (w *yard) sync() {
	w.t.Helper()
	now := time.Now().UTC().Format(time.RFC3339)
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{
		"sync":    map[string]any{"status": "OutOfSync"},
		"history": []any{map[string]any{"id": 1, "revision": w.good, "deployedAt": "2026-01-02T03:04:05Z"}},
		"operationState": map[string]any{
			"phase": "Running", "startedAt": now, "message": "waiting for completion of hook batch/Job/shop-gate",
			"operation":  map[string]any{"sync": map[string]any{"revision": w.bad}},
			"syncResult": map[string]any{"revision": w.bad, "source": map[string]any{"repoURL": w.s.Config.Deploy.ArgoCD.Repository}},
		},
	}})
	w.image("canary", w.s.Image)
}

func (w *yard) image(track, image string) {
	w.t.Helper()
	o := object{deployments, w.s.namespace(), "shop-" + track}
	u, err := w.admin.get(w.t.Context(), o, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var d apps.Deployment
	raw, _ := json.Marshal(u.Object)
	_ = json.Unmarshal(raw, &d)
	d.Spec.Template.Spec.Containers[0].Image = image
	d.ManagedFields = nil
	w.patch(o, map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": d.Spec.Template.Spec.Containers}}}})
}

func (w *yard) patch(o object, patch any) {
	w.t.Helper()
	if err := w.admin.merge(w.t.Context(), o, patch); err != nil {
		w.t.Fatal(err)
	}
}

// run runs a hook as its pod would.
func (w *yard) run(name string) (Verdict, error) {
	w.t.Helper()
	var log bytes.Buffer
	v, err := Run(w.t.Context(), name, w.s, w.cfg, &log)
	w.t.Logf("%s: %s (error %v)\n%s", name, v.Sentence(), err, log.String())
	return v, err
}

func (w *yard) application() *v1alpha1.Application {
	w.t.Helper()
	var app v1alpha1.Application
	if _, err := w.admin.get(w.t.Context(), object{applications, w.s.AppNamespace, w.s.App}, &app); err != nil {
		w.t.Fatal(err)
	}
	return &app
}

func (w *yard) records() []release.Record {
	w.t.Helper()
	l, err := w.s.Ledger(w.t.Context(), w.plane.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	records, err := l.Records(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return records
}

// said checks that the Application says something, in annotation and condition.
func (w *yard) said(verdict, what string) {
	w.t.Helper()
	app := w.application()
	if got := app.Annotations[NoteVerdict]; got != verdict {
		w.t.Errorf("the Application has the verdict %q, want %q (%s)", got, verdict, app.Annotations[NoteReason])
	}
	if len(app.Status.Conditions) != 1 || app.Status.Conditions[0].Type != Condition || !strings.Contains(app.Status.Conditions[0].Message, what) {
		w.t.Errorf("conditions %+v, want one that says %q", app.Status.Conditions, what)
	}
}

// atRest checks that the canary has no pod and the stable version was not touched.
func (w *yard) atRest() {
	w.t.Helper()
	w.await("the canary is gone", func() bool { return w.pods("canary") == 0 })
	var d apps.Deployment
	if _, err := w.admin.get(w.t.Context(), object{deployments, w.s.namespace(), "shop-stable"}, &d); err != nil {
		w.t.Fatal(err)
	}
	if got := k8s.Image(&d, "shop"); got != ref("1.0.0") {
		w.t.Errorf("the stable Deployment has %s", got)
	}
}

func (w *yard) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	w.t.Fatalf("waited in vain until %s", what)
}

// gitServer serves a repository in which 1.0.0 was followed by 1.1.0.
func (w *yard) gitServer() string {
	t := w.t
	t.Helper()
	dir := filepath.Join(t.TempDir(), "shop.git")
	w.git = filepath.Join(t.TempDir(), "work")
	w.command("", "init", "-q", "--bare", "-b", "main", dir)
	w.command(dir, "config", "http.receivepack", "true")
	w.command("", "clone", "-q", dir, w.git)
	w.command(w.git, "checkout", "-q", "-B", "main")
	w.good, w.bad = w.release("1.0.0"), w.release("1.1.0")
	backend := &cgi.Handler{
		Path: filepath.Join(w.command("", "--exec-path"), "git-http-backend"), InheritEnv: []string{"PATH"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=sluice"}, Stderr: io.Discard,
	}
	s := httptest.NewServer(backend)
	t.Cleanup(s.Close)
	return s.URL + "/shop.git"
}

// release commits and pushes a version; its commit is returned.
func (w *yard) release(version string) string {
	w.t.Helper()
	write(w.t, filepath.Join(w.git, "deploy/shop/kustomization.yaml"), "newTag: "+version+"\n")
	w.command(w.git, "add", "-A")
	w.command(w.git, "-c", "user.name=jane", "-c", "user.email=jane@example.com", "commit", "-q", "-m", "release "+version)
	w.command(w.git, "push", "-q", "origin", "main")
	return w.command(w.git, "rev-parse", "HEAD")
}

// head is the subject of the newest commit, and what it deploys.
func (w *yard) head() (subject, deploys string) {
	w.t.Helper()
	w.command(w.git, "fetch", "-q", "origin")
	return w.command(w.git, "log", "-1", "--format=%s", "origin/main"), w.command(w.git, "show", "origin/main:deploy/shop/kustomization.yaml")
}

func (w *yard) command(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// probePod is the pod of the daemon on the only node.
func (w *yard) probePod(namespace string) {
	w.t.Helper()
	w.plane.Apply(w.t, namespace, `
apiVersion: v1
kind: Pod
metadata: {name: sluice-probe-1, labels: {app.kubernetes.io/name: sluice-probe}}
spec: {nodeName: node-1, containers: [{name: probe, image: "example.com/probe:1"}]}`)
	body := map[string]any{"status": core.PodStatus{
		Phase: core.PodRunning, PodIP: "127.0.0.1", PodIPs: []core.PodIP{{IP: "127.0.0.1"}},
		Conditions: []core.PodCondition{{Type: core.PodReady, Status: core.ConditionTrue}},
	}}
	if err := w.admin.mergeStatus(w.t.Context(), object{pods, namespace, "sluice-probe-1"}, body); err != nil {
		w.t.Fatal(err)
	}
}

// listen is where the daemon of the node answers.
func listen(t *testing.T, h http.Handler) (port int) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().(*net.TCPAddr).Port
}
