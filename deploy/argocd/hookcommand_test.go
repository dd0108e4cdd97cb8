package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/internal/release"
)

// pod is what the pod of a hook finds in its environment.
func (w *world) pod(version string) {
	w.t.Helper()
	for name, value := range map[string]string{
		"SLUICE_IMAGE": image(version), "SLUICE_APP": "shop", "SLUICE_APP_NAMESPACE": w.ns,
		"SLUICE_SETTINGS": w.ns + "/shop-settings", "POD_NAME": "shop-hook-1", "TMPDIR": w.t.TempDir(),
	} {
		w.t.Setenv(name, value)
	}
}

// setup is the ConfigMap with the settings.
func (w *world) setup(data map[string]string) {
	w.t.Helper()
	raw, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": "shop-settings"}, "data": data})
	if err != nil {
		w.t.Fatal(err)
	}
	w.plane.Apply(w.t, w.ns, string(raw))
}

// said is what a hook left on the Application.
func (w *world) said() (verdict, reason string) {
	w.t.Helper()
	app, err := w.applications().Get(w.t.Context(), "shop", metav1.GetOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	notes := app.GetAnnotations()
	return notes[hook.NoteVerdict], notes[hook.NoteReason]
}

func TestAHookTakesItsSettingsFromAFolderOrTheConfigMap(t *testing.T) {
	for name, from := range map[string]func(w *world) []string{
		"a folder": func(w *world) []string { return []string{"--settings", w.dir} },
		"the ConfigMap": func(w *world) []string {
			text, err := os.ReadFile(w.file())
			if err != nil {
				w.t.Fatal(err)
			}
			w.setup(map[string]string{"sluice.yaml": string(text)})
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pod("1.1.0")
			w.ended("1.0.0", release.Result{Outcome: release.Promoted, Verdict: "pass"})
			log := filepath.Join(t.TempDir(), "termination-log")
			args := append([]string{"hook", "postsync", "--termination-log", log}, from(w)...)
			code, out, said := w.sluice(args...)
			if code != 0 || !strings.Contains(out, "no rollout of this release is open") || !strings.Contains(said, "canary to zero") {
				t.Errorf("exit status %d, stdout %q, stderr %q", code, out, said)
			}
			code, raw, _ := w.sluice(append(args, "-o", "json")...)
			var v hook.Verdict
			if err := json.Unmarshal([]byte(raw), &v); code != 0 || err != nil || v.Hook != "postsync" || v.Release != "1.1.0" {
				t.Errorf("exit status %d, %v, as JSON %s", code, err, raw)
			}
			var told hook.Verdict
			line, err := os.ReadFile(log)
			if err == nil {
				err = json.Unmarshal(line, &told)
			}
			if err != nil || told.Reason != v.Reason {
				t.Errorf("%v in the termination message %s", err, line)
			}
			if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "sluice-settings-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// What stops a hook before it could begin is its exit status, its termination
// message, and if the Application is known a word on it.
func TestAHookThatCannotBeginSaysWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		args   []string
		change func(w *world)
		says   string
		hint   string
		silent bool // nothing can be said on the Application
	}{
		"no ConfigMap":                {nil, func(*world) {}, "shop-settings", "hint: kubectl apply -k setup", false},
		"a ConfigMap that is empty":   {nil, func(w *world) { w.setup(map[string]string{"rule": "none"}) }, "has no sluice.yaml", "hint: kubectl apply -k setup", false},
		"a ConfigMap of no name":      {nil, func(w *world) { w.t.Setenv("SLUICE_SETTINGS", "shop") }, `SLUICE_SETTINGS is "shop", not the namespace/name of a ConfigMap`, "hint: ", false},
		"a mistake in the ConfigMap":  {nil, func(w *world) { w.setup(map[string]string{"sluice.yaml": "name: shop\ncolour: red\n"}) }, "/shop-settings: sluice.yaml:2: ", "", false},
		"a folder without settings":   {[]string{"--settings", "EMPTY"}, func(*world) {}, "there is no ", "hint: ", false},
		"a cluster that nobody knows": {[]string{"--kubeconfig", "EMPTY/none"}, func(*world) {}, "finding the cluster in ", "hint: ", true},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.pod("1.1.0")
			tt.change(w)
			empty, log := t.TempDir(), filepath.Join(t.TempDir(), "termination-log")
			args := []string{"hook", "presync", "--termination-log", log, "--kubeconfig", w.plane.Kubeconfig}
			for _, a := range tt.args {
				args = append(args, strings.ReplaceAll(a, "EMPTY", empty))
			}
			code, out, said := sluice(args...)
			if code != 2 || out != "" || !strings.Contains(said, tt.says) || !strings.Contains(said, tt.hint) {
				t.Errorf("exit status %d, stdout %q, stderr %q", code, out, said)
			}
			if line, err := os.ReadFile(log); err != nil || !json.Valid(line) || len(line) > 4096 {
				t.Errorf("the termination message is %s, %v", line, err)
			}
			verdict, reason := w.said()
			if want := map[bool]string{false: "error", true: ""}[tt.silent]; verdict != want || !tt.silent && !strings.Contains(reason, tt.says) {
				t.Errorf("the Application has %q: %q", verdict, reason)
			}
		})
	}
}

// TestAHookWithoutAKeyStopsTheSync: the exit status says it to the Job, the
// Application to people.
func TestAHookWithoutAKeyStopsTheSync(t *testing.T) {
	w := newWorld(t)
	w.pod("1.1.0")
	code, out, said := w.sluice("hook", "presync", "--settings", w.dir, "--termination-log", "")
	verdict, reason := w.said()
	if code != 2 || verdict != "error" || reason == "" || !strings.Contains(said, reason) || !strings.Contains(out, reason) {
		t.Errorf("exit status %d, stdout %q, stderr %q; on the Application %q: %q", code, out, said, verdict, reason)
	}
	if len(w.records()) != 0 {
		t.Errorf("recorded %+v", w.records())
	}
}
