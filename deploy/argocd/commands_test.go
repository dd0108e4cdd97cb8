package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	appsv1 "k8s.io/client-go/kubernetes/typed/apps/v1"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/internal/release"
)

func TestTheStatusShowsWhatServesAndWhatIsOnItsWay(t *testing.T) {
	w := newWorld(t)
	w.ended("1.0.0", release.Result{Outcome: release.Promoted, Verdict: "pass", Reason: "as good as before"})
	w.started("1.1.0")
	code, text, log := w.operator("status")
	if code != 0 || log != "" {
		t.Errorf("exit status %d, said %q", code, log)
	}
	for _, want := range []string{
		"shop in " + w.ns + "\n", "  stable  " + image("1.0.0") + "  0 of 0 pods ready\n", "  canary  " + image("1.1.0"),
		"  Argo CD  Synced, Healthy at " + w.newer[:12] + "\n", "  on its way  rollout 2: 1.1.0, since ", "as good as before\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	code, raw, _ := w.operator("status", "-o", "json")
	var st hook.Status
	if err := json.Unmarshal([]byte(raw), &st); code != 0 || err != nil || st.Serves == nil || st.Serves.Version != "1.0.0" || st.Running == nil || st.Running.ID != 2 {
		t.Errorf("exit status %d, %v, as JSON %s", code, err, raw)
	}
}

func TestAnApplicationOfAnotherNameIsLookedForThere(t *testing.T) {
	w := newWorld(t)
	code, text, _ := w.operator("status", "--app", "other", "--app-namespace", "elsewhere")
	if code != 0 || !strings.Contains(text, "stable  "+image("1.0.0")) || strings.Contains(text, "Argo CD") {
		t.Errorf("exit status %d, said %s", code, text)
	}
}

func TestForgettingAVerdict(t *testing.T) {
	w := newWorld(t)
	w.ended("1.0.0", release.Result{Outcome: release.Promoted, Verdict: "pass"})
	bad := w.ended("1.1.0", release.Result{Outcome: release.RolledBack, Verdict: "fail", Reason: "errors: failed"})
	for _, tt := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
		forgotten      bool // is the second one afterwards
	}{
		{"a dry run names the newest that failed", []string{"--dry-run"}, 0, "rollout 2 of shop 1.1.0 (fail) would not count any more\n", "", false},
		{"no such rollout", []string{"9"}, 2, "", "sluice-argo: the ledger has no rollout 9; sluice-argo status lists them\n", false},
		{"not a number", []string{"1.1.0"}, 2, "", `rollout "1.1.0" is not a number like 7`, false},
		{"zero", []string{"0"}, 2, "", `rollout "0" is not a number like 7`, false},
		{"two of them", []string{"1", "2"}, 2, "", "accepts at most 1 arg(s)", false},
		{"by its number, with a reason", []string{"2", "--reason", "the load generator was broken"}, 0, "rollout 2 of shop 1.1.0 (fail) does not count any more\n", "", true},
		{"again", []string{"--dry-run"}, 2, "", "there is no verdict to forget: everything was promoted", true},
	} { // in this order: one after the other
		t.Run(tt.name, func(t *testing.T) {
			code, out, log := w.operator(append([]string{"forget"}, tt.args...)...)
			if code != tt.code || out != tt.stdout || !strings.Contains(log, tt.stderr) {
				t.Errorf("exit status %d, stdout %q, stderr %q", code, out, log)
			}
			if f := w.records()[bad-1].Forgotten; (f != nil) != tt.forgotten {
				t.Errorf("forgotten: %+v", f)
			}
		})
	}
	if f := w.records()[bad-1].Forgotten; f.Reason != "the load generator was broken" || f.Operator != hook.Operator() {
		t.Errorf("the ledger says %+v", f)
	}
	w.ended("1.2.0", release.Result{Outcome: release.RolledBack, Verdict: "fail"})
	_, raw, _ := w.operator("forget", "-o", "json")
	var r release.Record
	if err := json.Unmarshal([]byte(raw), &r); err != nil || r.ID != 3 || r.Version != "1.2.0" {
		t.Errorf("%v in %s", err, raw)
	}
}

func TestTakingBackWhatIsOnItsWay(t *testing.T) {
	w := newWorld(t)
	w.ended("1.0.0", release.Result{Outcome: release.Promoted, Verdict: "pass"})
	w.syncing()
	w.started("1.1.0")
	if code, out, log := w.operator("rollback", "--dry-run"); code != 0 || !strings.Contains(out, "would take shop 1.1.0 back: traffic to 1.0.0, canary to zero, revert commit") {
		t.Fatalf("a dry run: exit status %d, stdout %q, stderr %q", code, out, log)
	}
	if n := w.canaries(); n != 1 || w.records()[1].Finished() {
		t.Fatalf("after a dry run there are %d canaries, records %+v", n, w.records())
	}
	code, out, log := w.operator("rollback")
	if code != 0 || !strings.Contains(out, "taken back by "+hook.Operator()) || !strings.Contains(out, "git reverted by ") || !strings.Contains(log, "traffic to the stable version, canary to zero") {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, log)
	}
	if r := w.records()[1]; w.canaries() != 0 || r.Outcome != release.RolledBack || r.Trigger != release.Operator {
		t.Errorf("%d canaries, recorded as %+v", w.canaries(), r)
	}
	if subject, deploys := w.head(); subject != "revert: shop 1.1.0 (rolled-back)" || deploys != "newTag: 1.0.0" {
		t.Errorf("git says %q and deploys %q", subject, deploys)
	}
	code, raw, _ := w.operator("rollback", "-o", "json")
	var again hook.Verdict
	if err := json.Unmarshal([]byte(raw), &again); code != 0 || err != nil || !strings.Contains(again.Reverted, "already") || !strings.Contains(again.Hint, "--serving") {
		t.Errorf("again: exit status %d, %v, as JSON %s", code, err, raw)
	}
}

// syncing makes the Application look as in the middle of the sync of 1.1.0.
func (w *world) syncing() {
	w.t.Helper()
	w.patch(map[string]any{"status": map[string]any{
		"history": []any{map[string]any{"id": 1, "revision": w.old, "deployedAt": "2026-01-02T03:04:05Z"}},
		"operationState": map[string]any{
			"phase": "Running", "startedAt": "2026-01-03T03:04:05Z", "message": "waiting for hooks",
			"operation":  map[string]any{"sync": map[string]any{"revision": w.newer}},
			"syncResult": map[string]any{"revision": w.newer, "source": map[string]any{"repoURL": "https://git.example.com/shop.git"}},
		},
	}})
}

// canaries is how many pods the canary is to have.
func (w *world) canaries() int32 {
	w.t.Helper()
	client, err := appsv1.NewForConfig(w.plane.Config)
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := client.Deployments(w.ns).Get(w.t.Context(), "shop-canary", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return *d.Spec.Replicas
}

// TestWhatCannotBeDoneIsSaid: a usage error changes nothing.
func TestWhatCannotBeDoneIsSaid(t *testing.T) {
	w := newWorld(t)
	broken := filepath.Join(t.TempDir(), "sluice.yaml")
	w.write(broken, "name: shop\ncolour: red\n")
	none := filepath.Join(t.TempDir(), "none")
	for name, tt := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"a rollback before any release":        {[]string{"rollback", "-f", w.file(), "--kubeconfig", w.plane.Kubeconfig}, 2, []string{"there is nothing to roll back: no version was promoted yet"}},
		"nothing to forget":                    {[]string{"forget", "-f", w.file(), "--kubeconfig", w.plane.Kubeconfig}, 2, []string{"there is no verdict to forget"}},
		"a service that is not in the cluster": {[]string{"status", "-f", w.elsewhere(), "--kubeconfig", w.plane.Kubeconfig}, 2, []string{"shop-"}},
		"a cluster that nobody knows":          {[]string{"status", "-f", w.file(), "--kubeconfig", none}, 2, []string{"finding the cluster in " + none, "hint: "}},
		"no configuration":                     {[]string{"rollback", "-f", none}, 2, []string{none}},
		"a configuration with a wrong field":   {[]string{"forget", "-f", broken}, 2, []string{"sluice.yaml:2: ", "colour"}},
		"an output of rollback":                {[]string{"rollback", "-o", "yaml"}, 2, []string{`unknown output "yaml" (known: text, json)`}},
		"an output of forget":                  {[]string{"forget", "-o", "yaml"}, 2, []string{"known: text, json"}},
		"an output of status":                  {[]string{"status", "-o", "yaml"}, 2, []string{"known: text, json"}},
		"an output of a hook":                  {[]string{"hook", "sync", "-o", "yaml"}, 2, []string{"known: text, json"}},
		"a hook that there is not":             {[]string{"hook", "midsync"}, 2, []string{`unknown command "midsync"`}},
		"a hook without a name":                {[]string{"hook"}, 2, []string{"no hook is named"}},
		"a command that there is not":          {[]string{"promote"}, 2, []string{`unknown command "promote"`}},
	} {
		t.Run(name, func(t *testing.T) {
			code, out, log := sluice(tt.args...)
			if code != tt.code || out != "" {
				t.Errorf("exit status %d, stdout %q", code, out)
			}
			for _, want := range tt.says {
				if !strings.Contains(log, want) {
					t.Errorf("said %q, not %q", log, want)
				}
			}
			if !strings.HasPrefix(log, "sluice-argo: ") {
				t.Errorf("said %q, without our name", log)
			}
		})
	}
}

// elsewhere is a configuration of the same service in a namespace where it is not.
func (w *world) elsewhere() string {
	text, err := os.ReadFile(w.file())
	if err != nil {
		w.t.Fatal(err)
	}
	file := filepath.Join(w.t.TempDir(), "sluice.yaml")
	w.write(file, strings.ReplaceAll(string(text), w.ns, "nowhere"))
	return file
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	for _, args := range [][]string{{}, {"render"}, {"hook"}, {"hook", "presync"}, {"rollback"}, {"forget"}, {"status"}, {"sync"}, {"drift"}} {
		code, out, log := sluice(append(args, "--help")...)
		if code != 0 || log != "" || !strings.Contains(out, "Examples:\n") || !strings.Contains(out, strings.Join(append([]string{"sluice-argo"}, args...), " ")) {
			t.Errorf("%v: exit status %d, stderr %q, help\n%s", args, code, log, out)
		}
	}
}

func TestTheVersionIsOneLine(t *testing.T) {
	if code, out, _ := sluice("--version"); code != 0 || !strings.HasPrefix(out, "sluice-argo ") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit status %d, said %q", code, out)
	}
}
