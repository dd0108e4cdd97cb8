package hook

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/release"
)

// twoVersions makes a yard in which 1.1.0 was promoted, then 1.2.0.
func twoVersions(t *testing.T) *yard {
	t.Helper()
	w := newYard(t, "")
	w.want("sync", 0)
	w.image("stable", ref("1.1.0"))
	w.want("postsync", 0)
	w.synced(w.bad)
	w.good, w.bad, w.s.Image = w.bad, w.release("1.2.0"), ref("1.2.0")
	w.image("canary", w.s.Image)
	w.want("sync", 0)
	w.image("stable", ref("1.2.0"))
	w.want("postsync", 0)
	w.synced(w.bad)
	return w
}

func (w *yard) rollback(o RollbackOptions) (Verdict, error) {
	w.t.Helper()
	o.Operator = "jane"
	v, err := Rollback(w.t.Context(), w.s, w.cfg, o, io.Discard)
	w.t.Logf("%s (error %v)", v.Sentence(), err)
	return v, err
}

// TestGoingBackFromWhatServesSaysWhatItWouldDoAndWhatItCannot: nothing that is
// refused or only asked for leaves a trace, but for the ledger's word on a revert
// that git did not take.
func TestGoingBackFromWhatServesSaysWhatItWouldDoAndWhatItCannot(t *testing.T) {
	w := twoVersions(t)
	untouched := func(what string) {
		t.Helper()
		if subject, _ := w.head(); subject != "release 1.2.0" || len(w.records()) != 2 {
			t.Errorf("%s: git says %q, %d records", what, subject, len(w.records()))
		}
	}
	v, err := w.rollback(RollbackOptions{DryRun: true})
	if want := "would go back from 1.2.0 to 1.1.0: revert commit from " + w.bad[:12] + " to " + w.good[:12]; err != nil || v.Reason != want {
		t.Errorf("a dry run says %q, %v", v.Reason, err)
	}
	untouched("a dry run")

	app := object{applications, w.s.AppNamespace, w.s.App}
	history := w.application().Status.History
	w.patch(app, map[string]any{"status": map[string]any{"history": nil}})
	if _, err := w.rollback(RollbackOptions{}); err == nil || !strings.Contains(err.Error(), "no longer says which git revisions had 1.2.0 and 1.1.0: revert the commit by hand") {
		t.Errorf("without a history: %v", err)
	}
	untouched("without a history")
	w.patch(app, map[string]any{"status": map[string]any{"history": history}})

	url := w.application().Spec.Source.RepoURL
	w.gitAt("http://127.0.0.1:1/shop.git")
	if _, err := w.rollback(RollbackOptions{}); err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("with git away: %v", err)
	}
	w.gitAt(url)
	if r := w.last(); len(w.records()) != 3 || r.Outcome != release.Refused || r.Trigger != release.Operator || !strings.HasPrefix(r.Reason, "1.2.0 still serves: ") {
		t.Errorf("recorded as %+v", r)
	}

	if v, err := w.rollback(RollbackOptions{Serving: true}); err != nil || !strings.Contains(v.Reverted, "git reverted by ") {
		t.Errorf("with git there again: %q, %v", v.Reverted, err)
	}
	if r := w.last(); r.Outcome != release.RolledBack || r.Operator != "jane" || r.Reason != "1.2.0 taken back by jane, 1.1.0 serves again" {
		t.Errorf("recorded as %+v", r)
	}
	if subject, deploys := w.head(); subject != "revert: shop 1.2.0 (rolled-back)" || !strings.Contains(deploys, "1.1.0") {
		t.Errorf("git: %q deploys %q", subject, deploys)
	}
}

func TestADryRunOfARollbackThatWasDoneSaysSo(t *testing.T) {
	w := newYard(t, "")
	w.set(func() { w.rate = 0 }) // no verdict for ten seconds
	gate := w.spawn("sync", "shop-gate-0")
	if !gate.until("canary  10 %") {
		t.Fatal(gate.log.String())
	}
	if _, err := w.rollback(RollbackOptions{}); err != nil {
		t.Fatal(err)
	}
	if code := gate.end(t); code != 1 {
		t.Errorf("the gate ends with %d", code)
	}
	subject, _ := w.head()
	v, err := w.rollback(RollbackOptions{DryRun: true})
	if err != nil || v.Reason != "1.1.0 was taken back already; would make sure that git says so" || !strings.Contains(v.Hint, "--serving") {
		t.Errorf("%q, hint %q, %v", v.Reason, v.Hint, err)
	}
	if _, err := w.rollback(RollbackOptions{Serving: true}); err == nil || !strings.Contains(err.Error(), "there is nothing to roll back") {
		t.Errorf("what serves was never promoted: %v", err)
	}
	if again, _ := w.head(); again != subject || len(w.records()) != 1 {
		t.Errorf("git: %q, %d records", again, len(w.records()))
	}
}

func TestADryRunForASyncThatWasEndedRecordsNothing(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.image("stable", ref("1.1.0"))
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{"operationState": map[string]any{"phase": "Failed"}}})
	v, err := w.rollback(RollbackOptions{DryRun: true})
	if err != nil || !strings.HasPrefix(v.Reason, "would record that 1.1.0 was promoted, whose sync was ended, and go back to ") || w.last().Finished() {
		t.Errorf("%q, %v, recorded as %+v", v.Reason, err, w.last())
	}
	if _, err := w.rollback(RollbackOptions{}); err == nil || !strings.Contains(err.Error(), "there is no version before 1.1.0 to go back to") {
		t.Errorf("got %v", err)
	}
	if r := w.last(); r.Outcome != release.Promoted || r.Verdict != "pass" {
		t.Errorf("recorded as %+v", r)
	}
}

func TestOnlyARolloutOfTheLedgerCanBeForgotten(t *testing.T) {
	w := newYard(t, "")
	for name, tt := range map[string]struct {
		o    ForgetOptions
		says string
	}{
		"one that there is not":           {ForgetOptions{Rollout: 7}, "the ledger has no rollout 7; sluice-argo status lists them"},
		"any, where none was ever judged": {ForgetOptions{}, "there is no verdict to forget: everything was promoted"},
	} {
		if _, err := Forget(t.Context(), w.s, w.cfg, tt.o); err == nil || err.Error() != tt.says {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWhereACommitCannotGoBackAPersonIsTold: the traffic is off, the books are
// closed, and the word on the Application says what is left to do.
func TestWhereACommitCannotGoBackAPersonIsTold(t *testing.T) {
	for name, tt := range map[string]struct {
		change map[string]any
		says   string
	}{
		"the Application asks for a tag": {
			map[string]any{"spec": map[string]any{"source": map[string]any{"targetRevision": "v1.1.0"}}},
			"git was not reverted: targetRevision is v1.1.0, which a commit does not move: set it back by hand",
		},
		"nothing was synced before": {
			map[string]any{"status": map[string]any{"history": nil}},
			"git was not reverted: there is no revision that was synced before",
		},
		"the sync does not say of what": {
			map[string]any{"status": map[string]any{"operationState": map[string]any{"syncResult": nil, "operation": map[string]any{"sync": nil}}}},
			"git was not reverted: the Application does not say which revision was synced",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, "")
			w.set(func() { w.behave = failing })
			w.want("sync", 1)
			w.patch(object{applications, w.s.AppNamespace, w.s.App}, tt.change)
			w.want("syncfail", 0)
			w.atRest()
			w.said("fail", tt.says)
			if r := w.last(); r.Outcome != release.RolledBack || r.Verdict != "fail" {
				t.Errorf("recorded as %+v", r)
			}
			if subject, _ := w.head(); subject != "release 1.1.0" {
				t.Errorf("git: %q", subject)
			}
		})
	}
}

// TestWhoHasTheLockIsNamed: a person at work is waited for until time is up.
func TestWhoHasTheLockIsNamed(t *testing.T) {
	w := newYard(t, "")
	h, err := newHook("rollback", w.s, w.cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	h.Holder = operatorPrefix + "jane"
	if _, err := h.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer h.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	v, err := Run(ctx, "postsync", w.s, w.cfg, &when{t, "waiting for operator:jane, which holds the lock", cancel})
	var held *LockError
	if !errors.As(err, &held) || held.Holder != "operator:jane" || held.Lost || ExitCode(t.Context(), err) != exitTransient {
		t.Fatalf("%s: %v", v.Sentence(), err)
	}
	if !strings.Contains(err.Error(), "shop-sluice is held by operator:jane") || !strings.Contains(v.Hint, "kubectl describe lease") {
		t.Errorf("%v, hint %q", err, v.Hint)
	}
}

func TestALockThatSomebodyTakesEndsTheWork(t *testing.T) {
	w := newYard(t, "")
	first, err := newHook("sync", w.s, w.cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	held, err := first.enter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	second, err := newHook("rollback", w.s, w.cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	second.Holder = operatorPrefix + "jane"
	if err := second.newLock().take(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	<-held.Done()
	var lost *LockError
	if err := context.Cause(held); !errors.As(err, &lost) || !lost.Lost || !strings.Contains(err.Error(), "shop-sluice was taken over by operator:jane") {
		t.Errorf("got %v", err)
	}
}
