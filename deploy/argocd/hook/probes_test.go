package hook

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/wire"
)

// probeReady says whether the pod of the daemon is ready.
func (w *yard) probeReady(yes core.ConditionStatus) {
	w.t.Helper()
	status := core.PodStatus{Phase: core.PodRunning, PodIP: "127.0.0.1", Conditions: []core.PodCondition{{Type: core.PodReady, Status: yes}}}
	err := w.admin.mergeStatus(w.t.Context(), object{pods, w.s.namespace() + "-probes", "sluice-probe-1"}, map[string]any{"status": status})
	if err != nil {
		w.t.Error(err)
	}
}

func TestADaemonThatCannotBeAskedSaysNothingOfTheRelease(t *testing.T) {
	for name, breaks := range map[string]func(*yard){
		"it is not ready":    func(w *yard) { w.probeReady(core.ConditionFalse) },
		"it does not answer": func(w *yard) { w.set(func() { w.tamper = func(*wire.Status) { panic(http.ErrAbortHandler) } }) },
		"the node has none": func(w *yard) {
			w.patch(object{pods, w.s.namespace() + "-probes", "sluice-probe-1"}, map[string]any{"metadata": map[string]any{"labels": map[string]any{"app.kubernetes.io/name": "other"}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, "")
			breaks(w)
			if v := w.want("presync", exitTransient); v.Verdict != "" || v.Hint == "" {
				t.Errorf("verdict %q, hint %q", v.Verdict, v.Hint)
			}
			w.said("error", "the probe on node node-1")
			_, _ = w.run("syncfail")
			if subject, _ := w.head(); subject != "release 1.1.0" || len(w.records()) != 0 {
				t.Errorf("git: %q, %d records", subject, len(w.records()))
			}
		})
	}
}

func TestADaemonIsWaitedFor(t *testing.T) {
	w := newYard(t, "")
	w.s.Config.Deploy.Kubernetes.Probe.Grace *= 60
	w.probeReady(core.ConditionFalse)
	timer := time.AfterFunc(time.Second, func() { w.probeReady(core.ConditionTrue) })
	defer timer.Stop()
	w.want("presync", 0)
}

func TestADaemonThatMeasuresWithAnotherProgramIsNoExcuse(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper func(*wire.Status)
		says   string
	}{
		"another object":            {func(s *wire.Status) { s.Loaded = bpf.Loaded{Digest: bpf.Digest("sha256:" + strings.Repeat("cd", 32))} }, "has loaded object sha256:cdcd"},
		"the kernel runs something": {func(s *wire.Status) { s.Mismatch = "program ingress has another tag" }, "is not the one that was signed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, "")
			w.set(func() { w.tamper = tt.tamper })
			v, err := w.run("presync")
			var refused *VerdictError
			if !errors.As(err, &refused) || v.Verdict != "invalid" || !strings.Contains(v.Reason, tt.says) {
				t.Errorf("verdict %s, %v", v.Sentence(), err)
			}
			if r := w.last(); r.Outcome != release.Refused {
				t.Errorf("recorded as %+v", r)
			}
		})
	}
}
