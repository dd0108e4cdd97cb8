package hook

import (
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/release"
)

// noPods leaves nothing behind the stable Service.
func (w *yard) noPods() {
	w.t.Helper()
	w.patch(object{deployments, w.s.namespace(), "shop-stable"}, map[string]any{"spec": map[string]any{"replicas": 0}})
	w.await("no stable pod serves", func() bool { return w.pods("stable") == 0 })
}

func TestAFirstReleaseThatDidNotComeUpMayBeReleasedAgain(t *testing.T) {
	w := newYard(t, "")
	w.noPods()
	for range 2 { // the same image, too: its settings may be what was wrong
		w.sync()
		w.want("presync", 0)
		if v := w.want("sync", 0); !strings.Contains(v.Reason, "first release") {
			t.Error(v.Sentence())
		}
		w.want("syncfail", 0)
		w.said("rolled-back", "the first release did not come up: waiting for completion")
		if r := w.last(); r.Outcome != release.RolledBack || r.Trigger != release.Crash || r.Verdict != "" {
			t.Errorf("recorded as %+v", r)
		}
	}
}

func TestAReleaseHasToBeComparedWithWhatServes(t *testing.T) {
	w := newYard(t, "")
	w.want("sync", 0)
	w.image("stable", ref("1.1.0"))
	w.want("postsync", 0)
	w.noPods()
	w.s.Image = ref("1.2.0")
	w.sync()
	if v := w.want("presync", exitUsage); v.Hint == "" || v.Verdict != "" {
		t.Errorf("verdict %q, hint %q", v.Verdict, v.Hint)
	}
	w.said("error", "service shop-stable has no ready endpoint")
	_, _ = w.run("syncfail")
	if subject, _ := w.head(); subject != "release 1.1.0" || len(w.records()) != 1 {
		t.Errorf("git: %q, %d records", subject, len(w.records()))
	}
}
