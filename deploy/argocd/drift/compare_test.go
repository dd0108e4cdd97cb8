package drift

import (
	"errors"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	good   = "registry.example.com/shop:1.0.0@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	coming = "registry.example.com/shop:1.1.0@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	object = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	other  = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	head   = "0123456789abcdef0123456789abcdef01234567"
	older  = "fedcba9876543210fedcba9876543210fedcba98"
)

// atRest is a service about which all agree.
func atRest() View {
	return View{
		At: noon, Service: "shop", Namespace: "shop", App: "argocd/shop", Want: Want{Replicas: 2},
		Git:    &Git{Target: "main", Name: "branch main", Commit: head},
		ArgoCD: &ArgoCD{Sync: "Synced", Health: "Healthy", Revision: head, Phase: "Succeeded", Reconciled: noon.Add(-time.Minute), Automated: true, SelfHeal: true},
		Stable: &Deployment{Image: good, Replicas: 2, Pods: 2, Ready: 2},
		Canary: &Deployment{Image: good},
		Route:  &Route{Rules: []Rule{{100, 0}, {100, 0}, {-1, -1}}},
		Jobs:   []Job{{Name: "shop-gate"}},
		Ledger: &Ledger{Serves: &Release{Rollout: 3, Version: "1.0.0", Image: good[strings.Index(good, "sha256:"):], Object: object}},
		Nodes:  []string{"a", "b"},
		Probes: []Probe{{Node: "a", Ready: true, Object: object}, {Node: "b", Ready: true, Object: object}},
	}
}

// syncing puts a release on its way.
func syncing(v *View) {
	v.ArgoCD.Operating, v.ArgoCD.Phase, v.ArgoCD.Sync, v.ArgoCD.Health = true, "Running", "OutOfSync", "Progressing"
	v.ArgoCD.OutOfSync = []string{"Deployment shop-stable"}
	v.Ledger.Open = &Release{Rollout: 4, Version: "1.1.0", Image: coming, Object: object}
	v.Canary = &Deployment{Image: coming, Replicas: 1, Pods: 1, Ready: 1}
	v.Route.Rules = []Rule{{0, 100}, {9000, 1000}}
	v.Jobs = []Job{{Name: "shop-gate", Active: true}}
}

// brief is a difference without the advice.
func brief(list []Difference) string {
	var lines []string
	for _, d := range list {
		lines = append(lines, string(d.Kind)+" "+d.View+" "+d.Where+": "+d.Want+" / "+d.Got+" / "+string(d.Mender))
	}
	return strings.Join(lines, "\n")
}

func TestCompare(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*View)
		want   []string // in their order; a prefix is enough
	}{
		"all agree":                         {func(*View) {}, nil},
		"a rollout moves what it may":       {syncing, nil},
		"the stable wave has begun":         {func(v *View) { syncing(v); v.Stable.Image = coming }, nil},
		"a ledger that names the reference": {func(v *View) { v.Ledger.Serves.Image = good }, nil},
		"a commit that Argo CD has not seen": {func(v *View) { v.ArgoCD.Revision = older }, []string{
			"drift git revision of branch main: 0123456789ab / fedcba987654 / Argo CD",
		}},
		"a targetRevision that stands for nothing": {func(v *View) { v.Git = &Git{Target: "v1.2", Refused: "an incomplete version"} }, []string{
			"drift git targetRevision: a branch, tag or constraint that resolves / an incomplete version / a person",
		}},
		"Argo CD has compared with nothing": {func(v *View) { v.ArgoCD.Revision = "" }, []string{"unknown git revision"}},
		"a resource was changed, and heals itself": {func(v *View) {
			v.ArgoCD.Sync, v.ArgoCD.OutOfSync = "OutOfSync", []string{"Deployment shop-stable", "Service shop"}
		}, []string{
			"drift argocd Deployment shop-stable: Synced / OutOfSync / Argo CD", "drift argocd Service shop: Synced / OutOfSync / Argo CD",
		}},
		"a resource was changed, and nobody heals it": {func(v *View) {
			v.ArgoCD.Sync, v.ArgoCD.SelfHeal, v.ArgoCD.OutOfSync = "OutOfSync", false, []string{"Service shop"}
		}, []string{"drift argocd Service shop: Synced / OutOfSync / a person"}},
		"out of sync in something unnamed": {func(v *View) { v.ArgoCD.Sync = "OutOfSync" }, []string{"drift argocd sync status: Synced / OutOfSync"}},
		"Argo CD does not know":            {func(v *View) { v.ArgoCD.Sync, v.ArgoCD.Health = "Unknown", "" }, []string{"unknown argocd sync status", "unknown argocd health"}},
		"the last sync failed": {func(v *View) { v.ArgoCD.Phase, v.ArgoCD.Message = "Failed", "the gate said no" }, []string{
			"drift argocd last sync: Succeeded / Failed: the gate said no / a person",
		}},
		"after a sync that failed nothing heals itself": {func(v *View) {
			v.ArgoCD.Phase, v.ArgoCD.Sync, v.ArgoCD.OutOfSync = "Failed", "OutOfSync", []string{"Deployment shop-stable"}
		}, []string{"drift argocd Deployment shop-stable: Synced / OutOfSync / a person", "drift argocd last sync: Succeeded / Failed / a person"}},
		"pods are on their way": {func(v *View) { v.ArgoCD.Health, v.Stable.Ready = "Progressing", 1 }, []string{
			"drift argocd health: Healthy / Progressing / Kubernetes", "drift live deployment shop-stable ready: 2 / 1 / Kubernetes",
		}},
		"degraded":                       {func(v *View) { v.ArgoCD.Health = "Degraded" }, []string{"drift argocd health: Healthy / Degraded / a person"}},
		"Argo CD cannot compare":         {func(v *View) { v.ArgoCD.Conditions = []Condition{{"ComparisonError", "no repository"}} }, []string{"unknown argocd ComparisonError"}},
		"a condition speaks of trouble":  {func(v *View) { v.ArgoCD.Conditions = []Condition{{"SyncError", "no rights"}} }, []string{"drift argocd SyncError"}},
		"Argo CD has not looked lately":  {func(v *View) { v.ArgoCD.Reconciled = noon.Add(-3 * time.Hour) }, []string{"unknown argocd reconciliation: a look within 1h0m0s / the last was 3h0m0s ago"}},
		"Argo CD has never looked":       {func(v *View) { v.ArgoCD.Reconciled = time.Time{} }, []string{"unknown argocd reconciliation: a look within 1h0m0s / it never looked"}},
		"stable runs something else":     {func(v *View) { v.Stable.Image, v.Canary.Image = coming, coming }, []string{"drift live deployment shop-stable image: sha256:1111111111111111111111111111111111111111111111111111111111111111 / " + coming + " / a person"}},
		"also while a rollout runs":      {func(v *View) { syncing(v); v.Stable.Image = "shop:3.0.0" }, []string{"drift live deployment shop-stable image"}},
		"the wrong number of stable":     {func(v *View) { v.Stable.Replicas, v.Stable.Ready = 5, 5 }, []string{"drift live deployment shop-stable replicas: 2 / 5 / Argo CD"}},
		"no stable version":              {func(v *View) { v.Stable = &Deployment{Absent: true} }, []string{"drift live deployment shop-stable: there / absent"}},
		"nothing was promoted yet":       {func(v *View) { v.Ledger = &Ledger{} }, []string{"unknown live ledger"}},
		"a canary that was left running": {func(v *View) { v.Canary.Replicas, v.Canary.Pods = 1, 1 }, []string{"drift live deployment shop-canary replicas: 0 / 1 / sluice"}},
		"a canary that ends":             {func(v *View) { v.Canary.Pods = 1 }, []string{"drift live deployment shop-canary pods: 0 / 1 / Kubernetes"}},
		"a canary of a release that failed": {func(v *View) { v.Canary.Image = coming }, []string{
			"drift live deployment shop-canary image: " + good + " / " + coming + " / sluice",
		}},
		"no canary":              {func(v *View) { v.Canary = &Deployment{Absent: true} }, []string{"drift live deployment shop-canary: there / absent"}},
		"weights that were left": {func(v *View) { v.Route.Rules = []Rule{{100, 0}, {9000, 1000}} }, []string{"drift live httproute shop rule 2: all to stable / stable 9000, canary 1000 / sluice"}},
		"a rule without stable":  {func(v *View) { v.Route.Rules[0] = Rule{-1, 0} }, []string{"drift live httproute shop rule 1: all to stable / no stable, canary 0"}},
		"a route of others":      {func(v *View) { v.Route.Rules = []Rule{{-1, -1}} }, []string{"drift live httproute shop: a rule for shop-stable / none"}},
		"no route":               {func(v *View) { v.Route = &Route{Absent: true} }, []string{"drift live httproute shop: there / absent"}},
		"traffic by replicas":    {func(v *View) { v.Route = nil }, nil},
		"a rollout that nobody closed": {func(v *View) { v.Ledger.Open = &Release{Rollout: 4, Version: "1.1.0", Image: coming} }, []string{
			"drift live ledger rollout 4: ended, as no sync is under way / open: 1.1.0 / sluice",
		}},
		"a hook that nobody waits for":                           {func(v *View) { v.Jobs[0].Active = true }, []string{"drift live job shop-gate"}},
		"another object on a node":                               {func(v *View) { v.Probes[1].Object = other }, []string{"drift probes node b object: sha256:aaaaaaaaaaaa / sha256:bbbbbbbbbbbb / a person"}},
		"nodes that disagree where the release names no object":  {func(v *View) { v.Ledger.Serves.Object = ""; v.Probes[1].Object = other }, []string{"drift probes node b object"}},
		"the object of the release on its way":                   {func(v *View) { syncing(v); v.Ledger.Open.Object = other }, []string{"drift probes node a object", "drift probes node b object"}},
		"a program was replaced":                                 {func(v *View) { v.Probes[0].Mismatch = "program x differs" }, []string{"drift probes node a kernel: what was verified / program x differs / Kubernetes"}},
		"a program was replaced, and the daemon has put it back": {func(v *View) { v.Probes[0].Mismatch = "program x differs (mismatch 1, at noon, repaired after 3ms)" }, []string{"drift probes node a kernel: what was verified / program x differs (mismatch 1, at noon, repaired after 3ms) / sluice"}},
		"a probe that is not ready":                              {func(v *View) { v.Probes[0].Ready = false }, []string{"drift probes node a probe: ready / not ready"}},
		"a node without a probe":                                 {func(v *View) { v.Probes = v.Probes[:1] }, []string{"drift probes node b: a sluice-probe / none"}},
		"a probe that does not answer":                           {func(v *View) { v.Probes[0] = Probe{Node: "a", Ready: true, Silent: "timeout"} }, []string{"unknown probes node a object: sha256:aaaaaaaaaaaa / no answer: timeout"}},
		"a probe that does not say":                              {func(v *View) { v.Probes[0].Object = "" }, []string{"unknown probes node a object"}},
		"probes that cannot be listed":                           {func(v *View) { v.Probes, v.Missing = nil, []Missing{{View: Loaded, Where: "probes", Why: "forbidden"}} }, []string{"unknown probes probes: an answer / forbidden"}},
		"without the Application a rollout of the ledger counts": {func(v *View) {
			syncing(v)
			v.ArgoCD, v.Missing = nil, []Missing{{View: InArgoCD, Where: "application", Why: "forbidden"}}
		}, []string{"unknown argocd application"}},
		"without the Application a service at rest is compared": {func(v *View) {
			v.ArgoCD, v.Missing = nil, []Missing{{View: InArgoCD, Where: "application", Why: "forbidden"}}
			v.Canary.Replicas = 1
		}, []string{"unknown argocd application", "drift live deployment shop-canary replicas"}},
		"without Application and ledger nothing is held against the canary": {func(v *View) {
			syncing(v)
			v.ArgoCD, v.Ledger, v.Missing = nil, nil, []Missing{{View: InArgoCD, Where: "application", Why: "away"}, {View: Live, Where: "ledger", Why: "away"}}
		}, []string{"unknown argocd application", "unknown live ledger"}},
	} {
		t.Run(name, func(t *testing.T) {
			v := atRest()
			tt.change(&v)
			got := Compare(v)
			if len(got) != len(tt.want) {
				t.Fatalf("got %d differences:\n%s", len(got), brief(got))
			}
			for i, want := range tt.want {
				if line := brief(got[i : i+1]); !strings.HasPrefix(line, want) {
					t.Errorf("got  %s\nwant %s", line, want)
				}
				if got[i].How == "" {
					t.Errorf("%s: nobody is told how to mend it", want)
				}
			}
		})
	}
}

// Nothing that is left out of a view may make it look sound.
func TestMissingEvidenceIsNeverAgreement(t *testing.T) {
	for name, lose := range map[string]func(*View){
		InGit: func(v *View) { v.Git = nil }, InArgoCD: func(v *View) { v.ArgoCD = nil }, Live + " stable": func(v *View) { v.Stable = nil },
		Live + " canary": func(v *View) { v.Canary = nil }, Live + " route": func(v *View) { v.Route = nil },
		Live + " ledger": func(v *View) { v.Ledger = nil }, Loaded: func(v *View) { v.Probes = nil },
	} {
		t.Run(name, func(t *testing.T) {
			v := atRest()
			lose(&v)
			view, where, _ := strings.Cut(name, " ")
			v.Missing = []Missing{{View: view, Where: where, Why: "forbidden"}}
			err := NewReport(v).Err()
			var drift *DriftError
			if !errors.As(err, &drift) || drift.ExitCode() != 4 || drift.Unknown != 1 {
				t.Errorf("got %v of\n%s", err, brief(Compare(v)))
			}
		})
	}
}

func TestExitStatusAndWords(t *testing.T) {
	v := atRest()
	if r := NewReport(v); r.Err() != nil || !strings.Contains(r.Text(), "no drift") || r.Differences == nil {
		t.Errorf("got %v, %s", r.Err(), r.Text())
	}
	syncing(&v)
	if text := NewReport(v).Text(); !strings.Contains(text, "Argo CD is syncing: what it moves was not compared") {
		t.Errorf("got %s", text)
	}
	v.Probes[0].Silent, v.Probes[1].Mismatch = "timeout", "program x differs"
	r := NewReport(v)
	var drift *DriftError
	if !errors.As(r.Err(), &drift) || drift.ExitCode() != 1 || r.Err().Error() != "shop: 1 difference, 1 not known" {
		t.Errorf("got %v", r.Err())
	}
	if text := r.Text(); !strings.Contains(text, "node b kernel: want what was verified, got program x differs — Kubernetes: by a new pod") {
		t.Errorf("got %s", text)
	}
}
