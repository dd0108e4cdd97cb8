package hook

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/internal/release"
)

func TestAReleaseThatPassedAndDidNotBecomeStableIsTakenBack(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.fails("the stable Deployment exceeded its progress deadline")
	w.want("syncfail", 0)
	w.atRest()
	w.said("fail", "the gate passed it, but the stable version did not get it: the stable Deployment exceeded")
	if r := w.last(); r.Outcome != release.RolledBack || r.Verdict != "fail" || r.Trigger != release.Crash || r.Requests.Canary == 0 {
		t.Errorf("recorded as %+v", r)
	}
	if subject, deploys := w.head(); subject != "revert: shop 1.1.0 (fail)" || !strings.Contains(deploys, "1.0.0") {
		t.Errorf("git: %q deploys %q", subject, deploys)
	}
}

func TestAReleaseThatIsStableIsNotTakenBackByWhatFailsAfterIt(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.becomesStable()
	w.fails("job shop-smoke failed")
	if v := w.want("syncfail", 0); !strings.Contains(v.Reverted, "git was not reverted: the stable version runs this release") {
		t.Error(v.Sentence())
	}
	if r := w.last(); r.Outcome != release.Promoted || r.Verdict != "pass" || !strings.Contains(r.Reason, "; the sync failed after it: job shop-smoke failed") {
		t.Errorf("recorded as %+v", r)
	}
	if v := w.want("syncfail", 0); !strings.Contains(v.Reason, "nothing to take back") || len(w.records()) != 1 {
		t.Errorf("again: %s, %d records", v.Sentence(), len(w.records()))
	}
	if subject, _ := w.head(); subject != "release 1.1.0" {
		t.Errorf("git: %q", subject)
	}
}

func TestAReleaseThatSomebodyPromotedByHandKeepsItsVerdict(t *testing.T) {
	w := newYard(t, "")
	w.set(func() { w.behave = failing })
	w.want("sync", 1)
	w.becomesStable()
	w.want("postsync", 1)
	if r := w.last(); r.Outcome != release.Promoted || !strings.HasPrefix(r.Reason, "promoted against the verdict (fail): ") {
		t.Errorf("recorded as %+v", r)
	}
}

func TestTheBooksOfAReleaseThatIsNotStableStayOpen(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.want("postsync", exitUsage)
	w.said("error", "the stable Deployment has the image "+ref("1.0.0")+", not the release "+ref("1.1.0"))
	if w.last().Finished() {
		t.Errorf("recorded as %+v", w.last())
	}
}

func TestWhatAnEarlierHookLeftAndNobodyCanReadStopsTheSync(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.patch(object{configMaps, w.s.namespace(), "shop-verdict"}, map[string]any{"data": map[string]string{keyVerdict: "{"}})
	for _, name := range []string{"sync", "syncfail"} {
		w.want(name, exitUsage)
		w.said("error", "reading configmaps "+w.s.namespace()+"/shop-verdict: ")
	}
	w.becomesStable()
	w.want("postsync", exitUsage)
	if w.last().Finished() {
		t.Errorf("recorded as %+v", w.last())
	}
}

func TestWithoutTheApplicationTheTrafficIsTakenOffAllTheSame(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	if w.pods("canary") == 0 {
		t.Fatal("there is no canary")
	}
	if err := w.admin.Resource(applications).Namespace(w.s.AppNamespace).Delete(t.Context(), w.s.App, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	v := w.want("syncfail", exitUsage)
	if !strings.Contains(v.Reason, w.s.App) || !strings.Contains(v.Hint, "SLUICE_APP and SLUICE_APP_NAMESPACE say it is "+w.s.AppNamespace+"/shop") {
		t.Errorf("reason %q, hint %q", v.Reason, v.Hint)
	}
	w.atRest()
}

// fails is what Argo CD says when it runs SyncFail.
func (w *yard) fails(message string) {
	w.t.Helper()
	w.patch(object{applications, w.s.AppNamespace, w.s.App}, map[string]any{"status": map[string]any{"operationState": map[string]any{"message": message}}})
}

// becomesStable lets all stable pods run the release.
func (w *yard) becomesStable() {
	w.t.Helper()
	w.image("stable", w.s.Image)
	h := &hook{Settings: w.s, api: w.admin}
	w.await("the stable version is the release", func() bool {
		done, err := h.promoted(w.t.Context())
		return err == nil && done
	})
}
