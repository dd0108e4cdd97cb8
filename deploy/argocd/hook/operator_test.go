package hook

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/release"
)

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
	hers, config := w.s, *w.s.Config // a newer sluice.yaml than the one of the setup
	config.Deploy.Canary.Deadline *= 2
	hers.Config = &config
	v, err := Rollback(t.Context(), hers, w.cfg, RollbackOptions{Operator: "jane"}, &log)
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
	records := len(w.records())
	again, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &bytes.Buffer{})
	if err != nil || !strings.Contains(again.Hint, "--serving") || len(w.records()) != records {
		t.Errorf("run again it says %q, %v, with %d records instead of %d", again.Hint, err, len(w.records()), records)
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

// TestAnOperatorGoesBackFromASyncThatWasEnded: Argo CD runs no hook of a sync that
// somebody terminates, here when the gate had passed the release.
func TestAnOperatorGoesBackFromASyncThatWasEnded(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.image("stable", ref("1.1.0"))
	w.want("postsync", 0)
	w.synced(w.bad)
	good := w.application().Status.History
	w.bad, w.s.Image = w.release("1.2.0"), ref("1.2.0")
	w.sync()
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{"history": good}})
	w.want("sync", 0)
	w.image("stable", ref("1.2.0"))
	if _, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "wait for the end of the sync") {
		t.Errorf("while the sync is under way: %v", err)
	}
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{"operationState": map[string]any{"phase": "Failed"}}})
	if _, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane"}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	if subject, deploys := w.head(); subject != "revert: shop 1.2.0 (rolled-back)" || !strings.Contains(deploys, "1.1.0") {
		t.Errorf("git: %q deploys %q", subject, deploys)
	}
	if r := w.records(); len(r) != 3 || r[1].Outcome != release.Promoted || r[1].Verdict != "pass" || r[2].Trigger != release.Operator {
		t.Errorf("records %+v", r)
	}
}
