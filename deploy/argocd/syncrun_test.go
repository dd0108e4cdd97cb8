package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-cd/sluice/deploy/argocd/drift"
	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/argocd/operation"
)

// argoCD plays the application controller: it looks at git when it is asked to,
// and every sync ends as told.
func (w *world) argoCD(phase, verdict string) {
	w.t.Helper()
	app := w.applications()
	patch := func(v any) {
		raw, err := json.Marshal(v)
		if err == nil {
			_, err = app.Patch(w.t.Context(), "shop", types.MergePatchType, raw, metav1.PatchOptions{})
		}
		if err != nil && w.t.Context().Err() == nil {
			w.t.Error(err)
		}
	}
	done := make(chan struct{})
	w.t.Cleanup(func() { <-done })
	go func() {
		defer close(done)
		for ; w.t.Context().Err() == nil; time.Sleep(50 * time.Millisecond) {
			u, err := app.Get(w.t.Context(), "shop", metav1.GetOptions{})
			if err != nil {
				continue
			}
			if u.GetAnnotations()[v1alpha1.AnnotationKeyRefresh] != "" {
				patch(map[string]any{
					"metadata": map[string]any{"annotations": map[string]any{v1alpha1.AnnotationKeyRefresh: nil}},
					"status":   map[string]any{"sync": map[string]any{"status": "OutOfSync", "revision": w.newer}},
				})
			}
			if op, asked := u.Object["operation"].(map[string]any); asked {
				w.end(patch, op, phase, verdict)
			}
		}
	}()
}

func (w *world) end(patch func(any), op map[string]any, phase, verdict string) {
	now := time.Now().UTC().Format(time.RFC3339)
	status := map[string]any{"operationState": map[string]any{
		"operation": op, "phase": phase, "startedAt": now, "finishedAt": now, "message": "one or more hooks failed",
		"syncResult": map[string]any{"revision": op["sync"].(map[string]any)["revision"], "source": map[string]any{"repoURL": "https://git.example.com/shop.git"}},
	}}
	note := map[string]any{}
	if verdict != "" {
		note = map[string]any{hook.NoteVerdict: verdict, hook.NoteReason: "p50 4 ms → 9 ms", hook.NoteRelease: "1.1.0"}
		status["conditions"] = []any{map[string]any{"type": string(hook.Condition), "message": verdict, "lastTransitionTime": now}}
	}
	patch(map[string]any{"operation": nil, "metadata": map[string]any{"annotations": note}, "status": status})
}

func TestTheExitStatusOfASyncIsItsVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		phase, verdict string
		code           int
		stdout, stderr string
		sarif          string
	}{
		"promoted":            {"Succeeded", "pass", 0, "shop is at COMMIT, release 1.1.0: pass: p50 4 ms → 9 ms\n", "", `"results": []`},
		"without any verdict": {"Succeeded", "", 0, "shop is at COMMIT\n", "", `"results": []`},
		"stopped":             {"Failed", "fail", 1, "", "sluice-argo: failed: the sync of shop ended with the verdict fail: p50 4 ms → 9 ms\n", `"ruleId": "gate"`},
		"without evidence":    {"Failed", "no-data", 4, "", "the verdict no-data", `"ruleId": "gate"`},
		"broken":              {"Error", "", 1, "", "error: the sync of shop: one or more hooks failed", `"ruleId": "gate"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.argoCD(tt.phase, tt.verdict)
			sarif := filepath.Join(t.TempDir(), "sluice.sarif")
			code, out, log := w.operator("sync", "--sarif", sarif)
			if want := strings.ReplaceAll(tt.stdout, "COMMIT", w.newer[:12]); code != tt.code || out != want || !strings.Contains(log, tt.stderr) {
				t.Errorf("exit status %d, stdout %q, stderr %q", code, out, log)
			}
			if raw, err := os.ReadFile(sarif); err != nil || !strings.Contains(string(raw), tt.sarif) {
				t.Errorf("%v, SARIF %s", err, raw)
			}
			code, raw, _ := w.operator("sync", "-o", "json")
			var res operation.Result
			if err := json.Unmarshal([]byte(raw), &res); code != tt.code || err != nil || res.Phase != tt.phase || res.Verdict != tt.verdict || res.Revision != w.newer {
				t.Errorf("exit status %d, %v, as JSON %s", code, err, raw)
			}
		})
	}
}

func TestASyncTellsTheWorkflow(t *testing.T) {
	w := newWorld(t)
	w.argoCD("Failed", "fail")
	output := filepath.Join(t.TempDir(), "output")
	t.Setenv("GITHUB_ACTIONS", "true")
	t.Setenv("GITHUB_OUTPUT", output)
	t.Setenv("GITHUB_STEP_SUMMARY", filepath.Join(t.TempDir(), "summary"))
	if code, _, log := w.operator("sync"); code != 1 || !strings.Contains(log, "::error title=sluice%3A gate::failed: ") {
		t.Errorf("exit status %d, said %q", code, log)
	}
	if raw, err := os.ReadFile(output); err != nil || !strings.Contains(string(raw), "\nfail\n") || !strings.Contains(string(raw), "\n"+w.newer+"\n") {
		t.Errorf("%v, the steps that follow get %s", err, raw)
	}
	t.Setenv("GITHUB_OUTPUT", t.TempDir()) // where nothing can be written
	if code, _, log := w.operator("sync"); code != 1 || !strings.Contains(log, "the verdict fail") || !strings.Contains(log, "is a directory") {
		t.Errorf("where outputs cannot be written: exit status %d, said %q", code, log)
	}
}

func TestADryRunOfASyncAsksForNothing(t *testing.T) {
	w := newWorld(t)
	code, out, log := w.operator("sync", "--dry-run")
	if want := "shop is at " + w.newer[:12] + ": would ask for a sync of main\n"; code != 0 || out != want || log != "" {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, log)
	}
	code, raw, _ := w.operator("sync", "--dry-run", "--revision", "v1.0.0", "-o", "json")
	var res operation.Result
	if err := json.Unmarshal([]byte(raw), &res); code != 0 || err != nil || res.Message != "would ask for a sync of v1.0.0" {
		t.Errorf("exit status %d, %v, as JSON %s", code, err, raw)
	}
	if u, err := w.applications().Get(t.Context(), "shop", metav1.GetOptions{}); err != nil || u.Object["operation"] != nil {
		t.Errorf("the Application asks for %v, %v", u.Object["operation"], err)
	}
}

func TestASyncThatNobodyTakesUpIsWorthAnotherTry(t *testing.T) {
	w := newWorld(t)
	code, out, log := w.operator("sync", "--revision", w.newer, "--timeout", "1s", "-o", "json")
	if code != 6 || out != "" || !strings.Contains(log, "the sync of shop has not ended after 1s") || !strings.Contains(log, "hint: it goes on") {
		t.Errorf("exit status %d, stdout %q, stderr %q", code, out, log)
	}
}

func TestDriftOfARealCluster(t *testing.T) {
	w := newWorld(t) // no release was recorded, the canary has a pod, no probe is there
	code, out, log := w.operator("drift")
	if code != 1 || !strings.Contains(out, "deployment shop-canary replicas: want 0, got 1") || log == "" {
		t.Errorf("exit status %d, stdout %s, stderr %q", code, out, log)
	}
	code, raw, _ := w.operator("drift", "-o", "json")
	var report drift.Report
	if err := json.Unmarshal([]byte(raw), &report); code != 1 || err != nil || report.Service != "shop" || len(report.Differences) == 0 {
		t.Errorf("exit status %d, %v, as JSON %s", code, err, raw)
	}
}

// interrupts presses Ctrl-C once a text was written.
type interrupts struct {
	t      *testing.T
	after  string
	shown  strings.Builder
	pushed bool
}

func (w *interrupts) Write(p []byte) (int, error) {
	w.shown.Write(p)
	if !w.pushed && strings.Contains(w.shown.String(), w.after) {
		w.pushed = true
		if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
			w.t.Error(err)
		}
	}
	return len(p), nil
}

func TestWatchingForDriftEndsWithAnInterruptAndWhatIsStillOpen(t *testing.T) {
	w := newWorld(t)
	out := &interrupts{t: t, after: "deployment shop-canary replicas"}
	var log strings.Builder
	code := run([]string{"drift", "--watch", "--interval", "1s", "-f", w.file(), "--kubeconfig", w.plane.Kubeconfig}, out, &log)
	lines := strings.Split(strings.TrimSpace(out.shown.String()), "\n")
	if last := lines[len(lines)-1]; code != 1 || !strings.Contains(last, "0 mended; ") || !strings.Contains(last, " still open") {
		t.Errorf("exit status %d, last line %q, stderr %q", code, last, log.String())
	}
}
