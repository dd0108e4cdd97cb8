package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
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
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		if lab.dir, lab.err = os.MkdirTemp("", "sluice-argo-"); lab.err != nil {
			return
		}
		if lab.plane, lab.err = cluster.StartPlane(ctx, lab.dir, func(string) {}); lab.err == nil {
			lab.plane.ArgoCD(t)
		}
	})
	if lab.err != nil {
		t.Fatal(lab.err)
	}
	return lab.plane
}

// world is a service in a namespace of its own, in which 1.1.0 came after 1.0.0,
// as an operator finds it: objects, Application, repository, ledger, sluice.yaml.
type world struct {
	t          *testing.T
	plane      *cluster.Plane
	ns, dir    string // dir has sluice.yaml and nothing else
	git        string // work tree
	old, newer string // commits of 1.0.0 and 1.1.0
	ledger     release.Log
}

var worlds atomic.Int32

const settings = `
name: shop
build: {main: ./app}
service: {port: 8080}
publish: {registry: registry.example.com/team/shop}
deploy:
  target: kubernetes
  kubernetes: {namespace: %[1]s, replicas: 2}
  argocd: {namespace: %[1]s, repository: %[2]s, path: deploy}
`

const manifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-stable, labels: {app.kubernetes.io/managed-by: sluice, app.kubernetes.io/part-of: shop}}
spec:
  replicas: 2
  selector: {matchLabels: {track: stable}}
  template:
    metadata: {labels: {track: stable}}
    spec: {containers: [{name: shop, image: "STABLE"}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop-canary, labels: {app.kubernetes.io/managed-by: sluice, app.kubernetes.io/part-of: shop}}
spec:
  replicas: 1
  selector: {matchLabels: {track: canary}}
  template:
    metadata: {labels: {track: canary}}
    spec: {containers: [{name: shop, image: "CANARY"}]}
---
apiVersion: argoproj.io/v1alpha1
kind: Application
metadata: {name: shop}
spec:
  project: default
  source: {repoURL: "REPOSITORY", path: deploy, targetRevision: main}
  destination: {server: https://kubernetes.default.svc, namespace: NAMESPACE}
`

func image(version string) string {
	return "registry.example.com/team/shop:" + version + "@sha256:" + strings.Repeat(version[2:3], 64)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	testenv.Need(t, "git")
	for _, name := range []string{"GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"} {
		t.Setenv(name, "") // where the tests run in a workflow it is not told
	}
	w := &world{t: t, plane: controlPlane(t), ns: fmt.Sprintf("argo-%d", worlds.Add(1)), dir: t.TempDir()}
	url := w.gitServer()
	w.write(filepath.Join(w.dir, "sluice.yaml"), fmt.Sprintf(settings, w.ns, url))
	w.plane.Apply(t, "", "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+w.ns+"}")
	w.plane.Apply(t, w.ns, strings.NewReplacer("STABLE", image("1.0.0"), "CANARY", image("1.1.0"), "REPOSITORY", url, "NAMESPACE", w.ns).Replace(manifests))
	w.patch(map[string]any{"status": map[string]any{
		"sync":   map[string]any{"status": "Synced", "revision": w.newer},
		"health": map[string]any{"status": "Healthy"},
	}})
	s, err := hook.LoadFile(w.file())
	if err == nil {
		w.ledger, err = s.Ledger(t.Context(), w.plane.Config)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) file() string { return filepath.Join(w.dir, "sluice.yaml") }

// sluice runs the command on this service.
func (w *world) sluice(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return sluice(append(args, "--kubeconfig", w.plane.Kubeconfig)...)
}

// operator runs one of the commands that read the user's file.
func (w *world) operator(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	return w.sluice(append(args, "-f", w.file())...)
}

func sluice(args ...string) (code int, stdout, stderr string) {
	var out, log strings.Builder
	code = run(args, &out, &log)
	return code, out.String(), log.String()
}

// started enters a rollout into the ledger that has not ended.
func (w *world) started(version string) (id int) {
	w.t.Helper()
	id, err := w.ledger.Start(w.t.Context(), release.Rollout{Name: "shop", Version: version, Image: image(version), Previous: "1.0.0", Started: time.Now()})
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// ended enters a whole rollout.
func (w *world) ended(version string, r release.Result) (id int) {
	w.t.Helper()
	id, r.Ended = w.started(version), time.Now()
	if err := w.ledger.Finish(w.t.Context(), id, r); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) records() []release.Record {
	w.t.Helper()
	records, err := w.ledger.Records(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return records
}

func (w *world) patch(patch any) {
	w.t.Helper()
	raw, err := json.Marshal(patch)
	if err == nil {
		_, err = w.applications().Patch(w.t.Context(), "shop", types.MergePatchType, raw, metav1.PatchOptions{})
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) applications() dynamic.ResourceInterface {
	w.t.Helper()
	client, err := dynamic.NewForConfig(w.plane.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	return client.Resource(v1alpha1.SchemeGroupVersion.WithResource("applications")).Namespace(w.ns)
}

// gitServer serves a repository in which 1.0.0 was followed by 1.1.0.
func (w *world) gitServer() (url string) {
	w.t.Helper()
	dir := filepath.Join(w.t.TempDir(), "shop.git")
	w.git = filepath.Join(w.t.TempDir(), "work")
	w.command("", "init", "-q", "--bare", "-b", "main", dir)
	w.command(dir, "config", "http.receivepack", "true")
	w.command("", "clone", "-q", dir, w.git)
	w.command(w.git, "checkout", "-q", "-B", "main")
	w.old, w.newer = w.release("1.0.0"), w.release("1.1.0")
	s := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(w.command("", "--exec-path"), "git-http-backend"), InheritEnv: []string{"PATH"},
		Env: []string{"GIT_PROJECT_ROOT=" + filepath.Dir(dir), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=sluice"}, Stderr: w.t.Output(),
	})
	w.t.Cleanup(s.Close)
	return s.URL + "/shop.git"
}

func (w *world) release(version string) (commit string) {
	w.t.Helper()
	w.write(filepath.Join(w.git, "deploy/kustomization.yaml"), "newTag: "+version+"\n")
	w.command(w.git, "add", "-A")
	w.command(w.git, "-c", "user.name=jane", "-c", "user.email=jane@example.com", "commit", "-q", "-m", "release "+version)
	w.command(w.git, "push", "-q", "origin", "main")
	return w.command(w.git, "rev-parse", "HEAD")
}

// head is the subject of the newest commit, and what it deploys.
func (w *world) head() (subject, deploys string) {
	w.t.Helper()
	w.command(w.git, "fetch", "-q", "origin")
	return w.command(w.git, "log", "-1", "--format=%s", "origin/main"), w.command(w.git, "show", "origin/main:deploy/kustomization.yaml")
}

func (w *world) command(dir string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "git", args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}
