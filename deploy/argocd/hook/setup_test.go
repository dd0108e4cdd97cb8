package hook

import (
	"bytes"
	"errors"
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
		}, exit: exitUsage, says: "deploys into elsewhere", stays: func(_ *testing.T, w *yard) {
			w.said("error", "error at syncfail: settings: deploy.kubernetes.namespace")
		}},
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
