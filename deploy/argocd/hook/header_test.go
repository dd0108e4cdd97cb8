package hook

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/wire"
)

const byHeader = byWeights + "\n    header: \"x-env: canary\""

// when is a log that does something at the first line with a text.
type when struct {
	t    *testing.T
	text string
	do   func()
}

func (w *when) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	if w.do != nil && strings.Contains(string(line), w.text) {
		do := w.do
		w.do = nil
		do()
	}
	return len(line), nil
}

// TestTheRequestsWithTheHeaderCanFailARelease: what happens as soon as they go to
// the canary ends the release before anybody else meets it.
func TestTheRequestsWithTheHeaderCanFailARelease(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(w *yard)
		exit    int
		verdict string
		trigger release.Trigger
		reason  string
	}{
		"it answers them with errors": {func(w *yard) { w.set(func() { w.behave = failing }) }, 1, "fail", release.SLO, "with x-env: canary: errors"},
		"something else counts them": {func(w *yard) {
			w.set(func() { w.tamper = func(s *wire.Status) { s.Mismatch = "program ingress has another tag" } })
		}, 5, "invalid", release.HashMismatch, "with x-env: canary: "},
		"nobody counts them": {func(w *yard) {
			w.set(func() { w.tamper = func(*wire.Status) { panic(http.ErrAbortHandler) } })
		}, 5, "invalid", "", "could not be read"},
		"its pods are gone": {func(w *yard) {
			w.patch(object{deployments, w.s.namespace(), "shop-canary"}, map[string]any{"spec": map[string]any{"replicas": 0}})
		}, 1, "fail", release.Crash, "the canary's process ended"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, byHeader)
			w.s.Config.Deploy.Canary.Steps[0].Min = config.Duration(20 * time.Second) // the header's share of the time: nothing else comes first
			v, err := Run(t.Context(), "sync", w.s, w.cfg, &when{t, "requests with x-env: canary go to the canary", func() { tt.happens(w) }})
			if got := v.ExitCode(); err == nil || got != tt.exit || v.Verdict != tt.verdict || v.Trigger != tt.trigger || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("%s, exit status %d, %v", v.Sentence(), got, err)
			}
			w.isolated()
			w.said(tt.verdict, tt.reason)
			w.want("syncfail", 0)
			w.atRest()
			if r := w.last(); r.Outcome != release.RolledBack || r.Verdict != tt.verdict || r.Trigger != tt.trigger {
				t.Errorf("recorded as %+v", r)
			}
			if subject, _ := w.head(); subject != "revert: shop 1.1.0 ("+tt.verdict+")" {
				t.Errorf("git: %q", subject)
			}
		})
	}
}

// TestAnInterruptedHeaderStepSaysNothingOfTheRelease: the hook may be run again.
func TestAnInterruptedHeaderStepSaysNothingOfTheRelease(t *testing.T) {
	w := newYard(t, byHeader)
	w.s.Config.Deploy.Canary.Steps[0].Min = config.Duration(20 * time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Run(ctx, "sync", w.s, w.cfg, &when{t, "requests with x-env: canary go to the canary", cancel})
	if got := ExitCode(ctx, err); got != exitInterrupted {
		t.Errorf("it ends with %d, %v", got, err)
	}
	w.isolated()
	if r := w.last(); r.Finished() {
		t.Errorf("recorded as %+v", r)
	}
}

// isolated checks that no request goes to the canary, whatever its headers.
func (w *yard) isolated() {
	w.t.Helper()
	route, err := w.admin.get(w.t.Context(), w.route(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	rules, _, _ := unstructured.NestedSlice(route.Object, "spec", "rules")
	checked := 0
	for _, rule := range rules {
		for _, b := range rule.(map[string]any)["backendRefs"].([]any) {
			backend := b.(map[string]any)
			if backend["name"] != "shop-canary" {
				continue
			}
			if checked++; backend["weight"] != int64(0) {
				w.t.Errorf("the canary has weight %v in %v", backend["weight"], rule)
			}
		}
	}
	if checked == 0 {
		w.t.Errorf("the route does not know the canary: %v", rules)
	}
}
