package drift

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
)

// look reads a view as an account with the documented rights and no others.
func (w *world) look() View {
	w.t.Helper()
	return w.as(w.plane.ServiceAccount(w.t, w.ns, "looker"))
}

func (w *world) as(cfg *rest.Config) View {
	w.t.Helper()
	r, err := NewReader(w.settings, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.Read(w.t.Context())
}

func TestAServiceAtRestHasNoDrift(t *testing.T) {
	w := newWorld(t)
	begin := time.Now()
	v := w.look()
	t.Logf("read in %v", time.Since(begin))
	if got := Compare(v); len(got) != 0 {
		t.Fatalf("got\n%s", brief(got))
	}
	if diff := cmp.Diff(&Route{Rules: []Rule{{100, 0}, {100, 0}}}, v.Route); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&Deployment{Image: good, Replicas: 2, Pods: 2, Ready: 2}, v.Stable); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"node-1", "node-2"}, v.Nodes); diff != "" {
		t.Error(diff)
	}
	if v.Git == nil || v.Git.Name != "branch main" || v.Ledger == nil || v.Ledger.Serves.Version != "1.0.0" {
		t.Errorf("git %+v, ledger %+v", v.Git, v.Ledger)
	}
}

// What somebody changes is found, and nothing else.
func TestWhatIsReadIsCompared(t *testing.T) {
	refs := func(stable, canary int) []any {
		return []any{
			map[string]any{"name": "shop-stable", "port": 80, "weight": stable}, map[string]any{"name": "shop-canary", "port": 80, "weight": canary},
		}
	}
	for name, tt := range map[string]struct {
		do   func(*world)
		want []string
	}{
		"git moves on":               {func(w *world) { w.commit("release 1.1.0") }, []string{"drift git revision of branch main"}},
		"a revision that is refused": {func(w *world) { w.source("v1.2") }, []string{"drift git targetRevision"}},
		"a constraint without a tag": {func(w *world) { w.source("1.*") }, []string{"drift git targetRevision"}},
		"a constraint":               {func(w *world) { w.command("tag", "v1.0.0"); w.source("1.*") }, nil},
		"a commit":                   {func(w *world) { w.source(w.command("rev-parse", "HEAD")) }, nil},
		"a repository that sluice.yaml has not heard of": {func(w *world) {
			w.settings.Config.Deploy.ArgoCD.Repository = "file://" + w.git + ".moved"
		}, nil},
		"a branch that is not there": {func(w *world) { w.source("nowhere") }, []string{"unknown git repository"}},
		"a repository that is gone": {func(w *world) {
			w.patch(applications, "shop", map[string]any{"spec": map[string]any{"source": map[string]any{"repoURL": "file:///nowhere/shop.git"}}})
		}, []string{"unknown git repository"}},
		"Argo CD sees something": {func(w *world) {
			w.patch(applications, "shop", map[string]any{"status": map[string]any{
				"sync":       map[string]any{"status": "OutOfSync"},
				"health":     map[string]any{"status": "Degraded"},
				"conditions": []any{map[string]any{"type": "SyncError", "message": "no\nrights"}, map[string]any{"type": "SluiceVerdict", "message": "pass"}},
				"resources":  []any{map[string]any{"kind": "Deployment", "name": "shop-stable", "status": "OutOfSync"}, map[string]any{"kind": "Service", "name": "shop", "status": "Synced"}},
			}})
		}, []string{"drift argocd SyncError: no such condition / no rights", "drift argocd Deployment shop-stable", "drift argocd health: Healthy / Degraded"}},
		"no Application": {func(w *world) { w.delete(applications, "shop") }, []string{"unknown argocd application"}},
		"a canary with pods": {func(w *world) {
			w.patch(deployments, "shop-canary", map[string]any{"spec": map[string]any{"replicas": 1}})
		}, []string{"drift live deployment shop-canary replicas: 0 / 1"}},
		"a sync is asked for, and all may move": {func(w *world) {
			w.patch(deployments, "shop-canary", map[string]any{"spec": map[string]any{"replicas": 1}})
			w.patch(applications, "shop", map[string]any{"operation": map[string]any{"sync": map[string]any{}}})
		}, nil},
		"stable that is scaled": {func(w *world) {
			w.patch(deployments, "shop-stable", map[string]any{"spec": map[string]any{"replicas": 3}})
		}, []string{"drift live deployment shop-stable replicas: 2 / 3", "drift live deployment shop-stable ready: 3 / 2"}},
		"no stable": {func(w *world) { w.delete(deployments, "shop-stable") }, []string{"drift live deployment shop-stable: there / absent"}},
		"weights": {func(w *world) {
			w.patch(routes, "shop", map[string]any{"spec": map[string]any{"rules": []any{map[string]any{"backendRefs": refs(9000, 1000)}}}})
		}, []string{"drift live httproute shop rule 1: all to stable / stable 9000, canary 1000"}},
		"no route":               {func(w *world) { w.delete(routes, "shop") }, []string{"drift live httproute shop: there / absent"}},
		"a rollout left open":    {func(w *world) { w.promote("1.1.0", "") }, []string{"drift live ledger rollout 2"}},
		"a promotion unfinished": {func(w *world) { w.promote("1.1.0", coming) }, []string{"drift live deployment shop-stable image: " + coming + " / " + good}},
		"a hook left running": {func(w *world) {
			w.plane.Apply(w.t, w.ns, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: shop-gate, labels: {app.kubernetes.io/part-of: shop, app.kubernetes.io/component: hook}}\nspec: {template: {spec: {restartPolicy: Never, containers: [{name: hook, image: example.com/c}]}}}")
		}, []string{"drift live job shop-gate"}},
		"another object":      {func(w *world) { w.says(2, other, "") }, []string{"drift probes node node-2 object"}},
		"a replaced program":  {func(w *world) { w.says(1, object, "program x differs") }, []string{"drift probes node node-1 kernel"}},
		"a daemon in trouble": {func(w *world) { w.says(1, "", "") }, []string{"unknown probes node node-1 object: sha256:aaaaaaaaaaaa / no answer"}},
		"a probe not ready":   {func(w *world) { w.ready("sluice-probe-1", 1, "False") }, []string{"drift probes node node-1 probe"}},
		"no probe":            {func(w *world) { w.delete(pods, "sluice-probe-2") }, []string{"drift probes node node-2: a sluice-probe / none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			tt.do(w)
			got := Compare(w.look())
			if len(got) != len(tt.want) {
				t.Fatalf("got %d differences:\n%s", len(got), brief(got))
			}
			for i, want := range tt.want {
				if line := brief(got[i : i+1]); !strings.HasPrefix(line, want) {
					t.Errorf("got  %s\nwant %s", line, want)
				}
			}
		})
	}
}

func (w *world) source(target string) {
	w.t.Helper()
	w.patch(applications, "shop", map[string]any{"spec": map[string]any{"source": map[string]any{"targetRevision": target}}})
}

func TestWithoutRightsNothingIsKnown(t *testing.T) {
	w := newWorld(t)
	v := w.as(w.plane.ServiceAccount(t, w.ns, "nobody"))
	var where []string
	for _, m := range v.Missing {
		where = append(where, m.View+" "+m.Where)
		if m.Advice == "" {
			t.Errorf("%s: nobody is told what to do", m.Where)
		}
	}
	want := []string{
		"argocd application", "live deployment shop-canary", "live deployment shop-stable", "live httproute shop",
		"live jobs of hooks", "live ledger", "probes nodes of the service", "probes probes",
	}
	if diff := cmp.Diff(want, where); diff != "" {
		t.Error(diff)
	}
	var drift *DriftError
	if err := NewReport(v).Err(); !errors.As(err, &drift) || drift.ExitCode() != 4 {
		t.Errorf("got %v", err)
	}
}

func TestAnAPIServerThatIsAwayIsNoAgreement(t *testing.T) {
	w := newWorld(t)
	r, err := NewReader(w.settings, &rest.Config{Host: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	v := r.Read(ctx)
	if took := time.Since(v.At); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	var drift *DriftError
	if err := NewReport(v).Err(); !errors.As(err, &drift) || drift.ExitCode() != 4 || drift.Unknown < 8 {
		t.Errorf("got %v of\n%s", err, brief(Compare(v)))
	}
}

// A difference is made and mended while a watch looks at it.
func TestAWatchTimesARepair(t *testing.T) {
	w := newWorld(t)
	r, err := NewReader(w.settings, w.plane.ServiceAccount(t, w.ns, "looker"))
	if err != nil {
		t.Fatal(err)
	}
	var watch Watch
	scale := func(n int) {
		w.patch(deployments, "shop-canary", map[string]any{"spec": map[string]any{"replicas": n}})
	}
	var said []string
	for _, n := range []int{0, 1, 1, 0} {
		scale(n)
		for _, c := range watch.Look(r.Read(t.Context())) {
			said = append(said, c.String())
		}
	}
	sum := watch.Summary()
	if len(said) != 2 || sum.Drifts != 1 || sum.Mended != 1 || sum.Longest <= 0 || sum.Err("shop") != nil {
		t.Errorf("got %v\n%s", sum, strings.Join(said, "\n"))
	}
	t.Log(sum)
}

func TestDriftIsForServicesInACluster(t *testing.T) {
	w := newWorld(t)
	w.settings.Config.Deploy.Target = "local"
	var wrong *hook.SettingsError
	if _, err := NewReader(w.settings, w.plane.Config); !errors.As(err, &wrong) || !strings.Contains(err.Error(), "deploy.target is local") {
		t.Errorf("got %v", err)
	}
}
