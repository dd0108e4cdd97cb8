package hook

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/wire"
)

// want runs a hook and checks its exit status.
func (w *yard) want(name string, exit int) Verdict {
	w.t.Helper()
	v, err := w.run(name)
	got := 0
	if err != nil {
		got = ExitCode(w.t.Context(), err)
	}
	if got != exit {
		w.t.Fatalf("%s ends with %d (%v), want %d", name, got, err, exit)
	}
	return v
}

// last is the newest record of the ledger.
func (w *yard) last() release.Record {
	w.t.Helper()
	records := w.records()
	if len(records) == 0 {
		w.t.Fatal("the ledger is empty")
	}
	return records[len(records)-1]
}

func TestAHealthyReleaseIsPromoted(t *testing.T) {
	for name, traffic := range map[string]string{
		"by replicas": "",
		"by weights": `traffic: httproute
    gateway: infra/web`,
		"by header, then weights": `traffic: httproute
    gateway: infra/web
    header: "x-env: canary"`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, traffic)
			w.want("presync", 0)
			if len(w.records()) != 0 {
				t.Error("presync opens a rollout")
			}
			w.want("sync", 0)
			if w.last().Finished() || w.pods("canary") == 0 {
				t.Error("the gate closes the books or takes the canary away before the stable version has the image")
			}
			w.said("pass", "shop 1.1.0: pass")
			if again := w.want("sync", 0); again.Verdict != "pass" || len(w.records()) != 1 {
				t.Errorf("a repeated gate answers %q with %d records", again.Verdict, len(w.records()))
			}
			w.image("stable", ref("1.1.0"))
			w.want("postsync", 0)
			w.await("the canary is gone", func() bool { return w.pods("canary") == 0 })
			r := w.last()
			if r.Outcome != release.Promoted || r.Verdict != "pass" || r.Requests.Canary == 0 || r.Version != "1.1.0" || r.Object != object1 {
				t.Errorf("recorded as %+v", r)
			}
			w.want("postsync", 0)
			w.want("presync", 0)
			w.want("sync", 0)
			if len(w.records()) != 1 {
				t.Error("hooks that are repeated make records")
			}
		})
	}
}

func TestAFailingReleaseIsTakenBackEverywhere(t *testing.T) {
	w := newYard(t, "")
	w.want("presync", 0)
	w.set(func() { w.behave = failing })
	v := w.want("sync", 1)
	if v.Trigger != release.SLO || !strings.Contains(v.Reason, "errors") {
		t.Errorf("verdict %s", v.Sentence())
	}
	w.atRest()
	w.said("fail", "shop 1.1.0: fail (slo) at sync")
	w.want("syncfail", 0)
	r := w.last()
	if r.Outcome != release.RolledBack || r.Trigger != release.SLO || r.Verdict != "fail" || r.Timeline.Breach.IsZero() || r.Timeline.Traffic.IsZero() {
		t.Errorf("recorded as %+v", r)
	}
	subject, deploys := w.head()
	if subject != "revert: shop 1.1.0 (fail)" || !strings.Contains(deploys, "1.0.0") {
		t.Errorf("git: %q deploys %q", subject, deploys)
	}
	w.said("fail", "git reverted by")
	w.want("syncfail", 0)
	if again, _ := w.head(); again != subject || len(w.records()) != 1 {
		t.Errorf("a repeated syncfail commits %q, %d records", again, len(w.records()))
	}
	t.Run("and is not tried again", func(t *testing.T) {
		w.t = t
		w.sync()
		if v := w.want("presync", 1); !strings.Contains(v.Reason, "decided before, in rollout 1") || v.Rollout != 1 {
			t.Error(v.Sentence())
		}
		w.want("sync", 1)
		if len(w.records()) != 1 || w.pods("canary") != 0 {
			t.Error("a verdict that stands makes a record or a canary")
		}
	})
	t.Run("until its verdict is forgotten", func(t *testing.T) {
		w.t = t
		w.set(func() { w.behave = healthy })
		if r, err := Forget(t.Context(), w.s, w.cfg, ForgetOptions{Operator: "jane", DryRun: true}); err != nil || r.ID != 1 || w.last().Forgotten != nil {
			t.Fatalf("a dry run would forget rollout %d, %v", r.ID, err)
		}
		if _, err := Forget(t.Context(), w.s, w.cfg, ForgetOptions{Operator: "jane", Reason: "the database was down"}); err != nil {
			t.Fatal(err)
		}
		w.want("presync", 0)
		w.want("sync", 0)
	})
}

// TestSettingsThatChangeDuringARolloutChangeNothingOfItsEnd: hooks read them anew,
// each in its own pod.
func TestSettingsThatChangeDuringARolloutChangeNothingOfItsEnd(t *testing.T) {
	t.Run("promoted", func(t *testing.T) {
		w := newYard(t, "")
		w.want("sync", 0)
		w.s.Config.Deploy.Canary.Deadline *= 2
		w.image("stable", ref("1.1.0"))
		w.want("postsync", 0)
		if r := w.last(); r.Outcome != release.Promoted || r.Verdict != "pass" {
			t.Errorf("recorded as %+v", r)
		}
	})
	t.Run("taken back", func(t *testing.T) {
		w := newYard(t, "")
		w.set(func() { w.behave = failing })
		w.want("sync", 1)
		w.s.Config.Deploy.Canary.Deadline *= 2
		w.want("syncfail", 0)
		if r := w.last(); r.Outcome != release.RolledBack || r.Verdict != "fail" || r.Trigger != release.SLO {
			t.Errorf("recorded as %+v", r)
		}
		if subject, _ := w.head(); subject != "revert: shop 1.1.0 (fail)" {
			t.Errorf("git: %q", subject)
		}
	})
	t.Run("judged anew by a gate that begins under them", func(t *testing.T) {
		w := newYard(t, "")
		w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "canary  10 %")
		w.s.Config.Deploy.Canary.Deadline *= 2
		w.want("sync", 0)
		if r := w.records(); len(r) != 2 || r[0].Trigger != release.Death || r[1].Finished() || r[1].Gate != w.s.gateDigest() {
			t.Errorf("records %+v", r)
		}
	})
}

func TestGoingBackNeedsNoGate(t *testing.T) {
	w := newYard(t, "")
	w.set(func() { w.behave = failing })
	w.want("sync", 1)
	w.want("syncfail", 0)
	w.s.Image = ref("1.0.0")
	w.sync()
	begin := time.Now()
	for _, hook := range []string{"presync", "sync", "postsync"} {
		w.want(hook, 0)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("the hooks of a revert take %v", took)
	}
	w.said("fail", "shop 1.1.0: fail") // what happened stays to be seen
}

func TestWithoutEvidenceThereIsNoPass(t *testing.T) {
	for name, tt := range map[string]struct {
		change  func(*nodes)
		exit    int
		verdict string
		trigger release.Trigger
		reason  string
	}{
		"no request comes":               {func(n *nodes) { n.rate = 0 }, 4, "no-data", "", "no pass within"},
		"the canary does not get ready":  {func(n *nodes) { n.unready = true }, 1, "fail", release.Crash, "0 of 1 pods ready"},
		"the probe counts what it likes": {func(n *nodes) { n.tamper = func(s *wire.Status) { s.Mismatch = "program ingress has another tag" } }, 5, "invalid", release.HashMismatch, "another tag"},
		"the probe loses requests": {func(n *nodes) {
			n.behave = func(_ string, c *probe.Counts, k uint64) { answered(c, k, 2, time.Millisecond) }
			lost := uint64(0)
			n.tamper = func(s *wire.Status) { lost += 1000; s.Loss.Requests = lost }
		}, 5, "invalid", "", "lost"},
		"the probe does not answer": {func(n *nodes) { n.tamper = func(*wire.Status) { panic(http.ErrAbortHandler) } }, 5, "invalid", "", "could not be read"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, "")
			w.set(func() { tt.change(w.nodes) })
			v := w.want("sync", tt.exit)
			if v.Verdict != tt.verdict || v.Trigger != tt.trigger || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("verdict %s", v.Sentence())
			}
			w.atRest()
			w.said(tt.verdict, tt.reason)
			w.want("syncfail", 0)
			if subject, _ := w.head(); subject != "revert: shop 1.1.0 ("+tt.verdict+")" {
				t.Errorf("git: %q", subject)
			}
			if r := w.last(); r.Verdict != tt.verdict || r.Trigger != tt.trigger || r.Outcome != release.RolledBack {
				t.Errorf("recorded as %+v", r)
			}
		})
	}
}

func TestAnUnsignedImageIsRefused(t *testing.T) {
	w := newYard(t, "")
	w.s.Image = repo + "6.6.6@sha256:" + strings.Repeat("6", 64)
	for range 2 {
		v := w.want("presync", 5)
		if v.Trigger != release.Signature {
			t.Errorf("verdict %s", v.Sentence())
		}
	}
	w.said("invalid", "is not admitted: signature: there is none")
	if r := w.records(); len(r) != 1 || r[0].Outcome != release.Refused || r[0].Trigger != release.Signature {
		t.Errorf("recorded as %+v", r)
	}
	w.want("syncfail", 0)
	if subject, _ := w.head(); subject != "revert: shop 6.6.6 (invalid)" {
		t.Errorf("git: %q", subject)
	}
	w.image("canary", w.s.Image)
	w.want("sync", 5) // also when PreSync was left out
}

func TestAnAbsentRegistryIsNobodysFault(t *testing.T) {
	w := newYard(t, "")
	w.s.Image = repo + "5.0.3@sha256:" + strings.Repeat("5", 64)
	if _, err := w.run("presync"); err == nil || !strings.Contains(err.Error(), "no route to host") {
		t.Fatal(err)
	}
	w.said("error", "no route to host")
	w.want("syncfail", 0)
	if subject, _ := w.head(); subject != "release 1.1.0" || len(w.records()) != 0 {
		t.Errorf("git: %q, %d records", subject, len(w.records()))
	}
}

func TestTheTerminationMessageIsOneSmallLine(t *testing.T) {
	w := newYard(t, "")
	w.set(func() { w.unready = true })
	w.want("sync", 1)
	raw, err := os.ReadFile(w.s.Termination)
	if err != nil {
		t.Fatal(err)
	}
	var v Verdict
	if err := json.Unmarshal(raw, &v); err != nil || strings.Count(string(raw), "\n") != 1 || v.Verdict != "fail" {
		t.Errorf("%v in %s", err, raw)
	}
	v.Reason, v.Hint = strings.Repeat("ü\n", 9000), strings.Repeat(`"`, 9000)
	if long := v.termination(); len(long) > mostTermination || json.Unmarshal(long, &v) != nil {
		t.Errorf("%d bytes of a long one: %.100s", len(long), long)
	}
}
