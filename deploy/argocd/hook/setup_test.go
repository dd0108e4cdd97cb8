package hook

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-cd/sluice/internal/release"
)

const byWeights = "traffic: httproute\n    gateway: infra/web"

// What stops a hook before anything of the release was judged is said on the
// Application, moves nothing and blames nobody.
func TestAHookThatCannotDoItsWorkSaysWhyOnTheApplication(t *testing.T) {
	for name, tt := range map[string]struct {
		traffic string
		breaks  func(t *testing.T, w *yard)
		exit    int
		says    string
		stays   func(t *testing.T, w *yard)
	}{
		"no permission": {breaks: func(t *testing.T, w *yard) {
			role := "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: shop-sluice}\nrules:\n"
			w.plane.Apply(t, w.s.namespace(), role+`- {apiGroups: [""], resources: [configmaps], verbs: [get, create, update, patch]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [get, create, update]}
`)
		}, exit: exitUsage, says: "this account may not get deployments shop-stable"},
		"no right to the ledger": {breaks: func(t *testing.T, w *yard) {
			w.plane.Apply(t, w.s.namespace(), "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: shop-sluice}\nrules: []\n")
		}, exit: exitUsage, says: "may not get configmaps shop-ledger"},
		"a namespace other than the Application's": {breaks: func(t *testing.T, w *yard) {
			w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"spec": map[string]any{"destination": map[string]any{"namespace": "elsewhere"}}})
		}, exit: exitUsage, says: "deploys into elsewhere"},
		"a Service without endpoints": {breaks: func(t *testing.T, w *yard) {
			w.patch(object{deployments, w.s.namespace(), "shop-stable"}, map[string]any{"spec": map[string]any{"replicas": 0}})
			w.await("no stable pod serves", func() bool { return w.pods("stable") == 0 })
		}, exit: exitUsage, says: "service shop-stable has no ready endpoint"},
		"an HTTPRoute of another owner": {traffic: byWeights, breaks: func(t *testing.T, w *yard) {
			w.patch(w.route(), map[string]any{"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"}}})
		}, exit: exitUsage, says: "httproute shop is not ours: it is managed by Helm"},
		"a user's own weights": {traffic: byWeights, breaks: func(t *testing.T, w *yard) {
			w.patch(w.route(), map[string]any{"spec": map[string]any{"rules": []any{map[string]any{"backendRefs": []any{
				map[string]any{"name": "shop-stable", "port": 80, "weight": 60}, map[string]any{"name": "shop-canary", "port": 80, "weight": 40},
			}}}}})
		}, exit: exitUsage, says: "divides traffic stable:canary 60:40", stays: func(t *testing.T, w *yard) {
			route, err := w.admin.get(t.Context(), w.route(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if raw, _ := route.MarshalJSON(); !bytes.Contains(raw, []byte(`"weight":40`)) {
				t.Errorf("the user's weights did not stay: %s", raw)
			}
		}},
		"a tag that is half a version": {breaks: func(t *testing.T, w *yard) {
			w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"spec": map[string]any{"source": map[string]any{"targetRevision": "v1.2"}}})
		}, exit: exitUsage, says: `targetRevision "v1.2"`},
		"a git remote that is gone": {breaks: func(t *testing.T, w *yard) {
			w.gitAt("http://127.0.0.1:1/shop.git")
		}, exit: exitTransient, says: "127.0.0.1:1"},
		"an image without a digest": {breaks: func(t *testing.T, w *yard) { w.s.Image = repo + "1.1.0" }, exit: exitUsage, says: "has no digest"},
		"an image whose tag is no version": {breaks: func(t *testing.T, w *yard) {
			w.s.Image = strings.Replace(w.s.Image, "1.1.0", "latest", 1)
		}, exit: exitUsage, says: `has the tag "latest"`},
		"no key to verify with": {breaks: func(t *testing.T, w *yard) { _ = os.Remove(w.s.PublicKey) }, exit: exitUsage, says: "nothing says whose signature counts"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, tt.traffic)
			tt.breaks(t, w)
			v := w.want("presync", tt.exit)
			if v.Hint == "" || v.Verdict != "" {
				t.Errorf("verdict %q, hint %q", v.Verdict, v.Hint)
			}
			w.said("error", tt.says)
			if len(w.records()) != 0 || w.pods("canary") != 0 {
				t.Error("something was recorded or started")
			}
			_, _ = w.run("syncfail")
			if tt.stays != nil {
				tt.stays(t, w)
			}
			if subject, _ := w.head(); subject != "release 1.1.0" {
				t.Errorf("git was reverted: %s", subject)
			}
		})
	}
}

func (w *yard) route() object {
	return object{kind: applications.GroupResource().WithVersion("v1"), namespace: w.s.namespace(), name: "shop"}.of("gateway.networking.k8s.io", "httproutes")
}

func (o object) of(group, resource string) object {
	o.kind.Group, o.kind.Resource = group, resource
	return o
}

func TestAFailureBeforeAnythingIsSaidToo(t *testing.T) {
	w := newYard(t, "")
	w.s.Config = nil
	if err := Fail(t.Context(), "presync", w.s, w.cfg, &SettingsError{What: "there is no sluice.yaml"}); err != nil {
		t.Fatal(err)
	}
	w.said("error", "there is no sluice.yaml")
	if err := Fail(t.Context(), "presync", w.s, nil, errors.New("no cluster")); err != nil {
		t.Errorf("without a cluster: %v", err)
	}
	raw, _ := os.ReadFile(w.s.Termination)
	if !bytes.Contains(raw, []byte("no cluster")) {
		t.Errorf("termination message %s", raw)
	}
}

func TestWhatGitRefusesIsSaidAndTheTrafficIsOff(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks func(w *yard)
		exit   int
		says   string // besides the verdict
	}{
		"the remote is gone": {func(w *yard) { w.gitAt("http://127.0.0.1:1/shop.git") }, exitTransient, "127.0.0.1:1"},
		"somebody has moved on": {func(w *yard) {
			write(w.t, filepath.Join(w.git, "deploy/shop/more.yaml"), "more: true\n")
			w.release("1.1.0")
		}, exitUsage, "has moved on"},
		"reverting is off": {func(w *yard) { w.s.Config.Deploy.ArgoCD.Revert = "off" }, 0, "deploy.argocd.revert is off"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, "")
			w.set(func() { w.behave = failing })
			w.want("sync", 1)
			tt.breaks(w)
			w.want("syncfail", tt.exit)
			w.atRest()
			w.said("fail", tt.says)
			w.said("fail", "shop 1.1.0: fail (slo) at syncfail: errors: failed")
			if r := w.last(); r.Outcome != release.RolledBack || r.Trigger != release.SLO {
				t.Errorf("recorded as %+v", r)
			}
		})
	}
}

func TestWithNothingToRollOutWhatIsNotInOrderStaysAndStopsNothing(t *testing.T) {
	for name, change := range map[string]any{
		"the route is somebody else's": map[string]any{"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/managed-by": "Helm"}}},
		"a person's weights": map[string]any{"spec": map[string]any{"rules": []any{map[string]any{"backendRefs": []any{
			map[string]any{"name": "shop-stable", "port": 80, "weight": 60}, map[string]any{"name": "shop-canary", "port": 80, "weight": 40},
		}}}}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, byWeights)
			w.want("sync", 0)
			w.image("stable", ref("1.1.0"))
			w.want("postsync", 0)
			w.patch(w.route(), change)
			before, err := w.admin.get(t.Context(), w.route(), nil)
			if err != nil {
				t.Fatal(err)
			}
			w.want("presync", 0)
			w.want("sync", 0)
			after, err := w.admin.get(t.Context(), w.route(), nil)
			if err != nil || after.GetResourceVersion() != before.GetResourceVersion() {
				t.Errorf("the route was written, %v", err)
			}
		})
	}
}

// gitAt lets the Application come from another repository.
func (w *yard) gitAt(url string) {
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"spec": map[string]any{"source": map[string]any{"repoURL": url}}})
}

func TestAnOperatorsWordIsNotOverwritten(t *testing.T) {
	w := newYard(t, "")
	h, err := newHook("sync", w.s, w.cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []Verdict{
		{Rollout: 1, Verdict: "fail", Trigger: release.SLO},
		{Rollout: 1, Trigger: release.Operator, Reason: "taken back by jane"},
	} {
		if err := h.leave(t.Context(), handover{Verdict: &v}); err != nil {
			t.Fatal(err)
		}
	}
	var taken *takenBackError
	if err := h.leave(t.Context(), handover{Verdict: &Verdict{Rollout: 1, Verdict: "pass"}}); !errors.As(err, &taken) || taken.Verdict.Reason != "taken back by jane" {
		t.Errorf("got %v", err)
	}
	if err := h.leave(t.Context(), handover{Verdict: &Verdict{Rollout: 2, Verdict: "pass"}}); err != nil {
		t.Errorf("the next rollout: %v", err)
	}
}

func TestAnOperatorTakesBackWhatIsOnItsWay(t *testing.T) {
	w := newYard(t, byWeights)
	w.set(func() { w.rate = 0 }) // no verdict for ten seconds
	gate := w.spawn("sync", "shop-gate-0")
	if !gate.until("canary  10 %") {
		t.Fatal(gate.log.String())
	}
	var log bytes.Buffer
	if v, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane", DryRun: true}, &log); err != nil || !strings.Contains(v.Reason, "would take") || len(w.records()) != 1 {
		t.Fatalf("a dry run says %q, %v", v.Reason, err)
	}
	v, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if code := gate.end(t); code != 1 {
		t.Errorf("the gate ends with %d, want 1: it is not to be tried again", code)
	}
	w.atRest()
	w.said("rolled-back", "taken back by jane")
	if r := w.last(); r.Trigger != release.Operator || r.Outcome != release.RolledBack || v.Rollout != r.ID {
		t.Errorf("recorded as %+v", r)
	}
	again, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &log)
	if err != nil || !strings.Contains(again.Reverted, "already") || len(w.records()) != 1 {
		t.Errorf("run again it says %q, %v, with %d records", again.Reverted, err, len(w.records()))
	}
	w.want("sync", 1)
	w.want("syncfail", 0)
	if subject, deploys := w.head(); subject != "revert: shop 1.1.0 (rolled-back)" || !strings.Contains(deploys, "1.0.0") || len(w.records()) != 1 {
		t.Errorf("git: %q, %d records", subject, len(w.records()))
	}
}

func TestAnOperatorGoesBackFromWhatServes(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.image("stable", ref("1.1.0"))
	w.want("postsync", 0)
	if _, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "no version before 1.1.0") {
		t.Errorf("with one version in the ledger: %v", err)
	}
	w.synced(w.bad)
	w.good, w.bad, w.s.Image = w.bad, w.release("1.2.0"), ref("1.2.0")
	w.image("canary", w.s.Image)
	w.want("sync", 0)
	w.image("stable", ref("1.2.0"))
	w.want("postsync", 0)
	w.synced(w.bad)
	v, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	subject, deploys := w.head()
	if subject != "revert: shop 1.2.0 (rolled-back)" || !strings.Contains(deploys, "1.1.0") {
		t.Errorf("%s; git: %q deploys %q", v.Sentence(), subject, deploys)
	}
	w.s.Image = ref("1.1.0")
	w.image("canary", w.s.Image)
	if v := w.want("sync", 0); !strings.Contains(v.Reason, "needs no gate") {
		t.Errorf("going back is judged: %s", v.Sentence())
	}
}

// synced enters a revision into the Application's history, as Argo CD does after
// a sync.
func (w *yard) synced(revision string) {
	w.t.Helper()
	app := w.application()
	history := []any{}
	for _, h := range app.Status.History {
		history = append(history, h)
	}
	history = append(history, map[string]any{"id": len(history) + 1, "revision": revision, "deployedAt": w.last().Ended})
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{"history": history}})
}

func TestTheStatusShowsWhatServesAndWhatWas(t *testing.T) {
	w := newYard(t, "")
	w.set(func() { w.behave = failing })
	w.want("sync", 1)
	w.want("syncfail", 0)
	st, err := Look(t.Context(), w.s, w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shop in " + w.s.namespace(), "stable  " + ref("1.0.0"), "2 of 2 pods ready", "last verdict  fail", "1.1.0         rolled-back fail"} {
		if !strings.Contains(st.Text(), want) {
			t.Errorf("%q is missing in\n%s", want, st.Text())
		}
	}
}

func TestExitCodes(t *testing.T) {
	for name, tt := range map[string]struct {
		v    Verdict
		want int
	}{
		"a pass":                        {Verdict{Verdict: "pass"}, 0},
		"nothing to do":                 {Verdict{}, 0},
		"a fail":                        {Verdict{Verdict: "fail"}, 1},
		"inconclusive":                  {Verdict{Verdict: "inconclusive"}, 3},
		"no data":                       {Verdict{Verdict: "no-data"}, 4},
		"an untrusted measurement":      {Verdict{Verdict: "invalid"}, 5},
		"what a person took back":       {Verdict{Trigger: release.Operator}, 1},
		"settings":                      {Verdict{cause: &SettingsError{}}, exitUsage},
		"an API server that is away":    {Verdict{cause: &AwayError{errors.New("refused")}}, exitTransient},
		"a connection that was refused": {Verdict{cause: syscall.ECONNREFUSED}, exitTransient},
		"a lock that somebody holds":    {Verdict{cause: &LockError{}}, exitTransient},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.v.ExitCode(); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}
