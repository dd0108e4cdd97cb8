package main

import (
	"os/exec"
	"strings"
	"testing"
	"time"
)

const changes = `echo '{"at":"2026-01-01T12:00:00Z","mended":false,"difference":{"kind":"drift","view":"live","where":"deployment shop-canary replicas","want":"0","got":"1","mender":"sluice","how":"sync"}}'
echo '{"at":"2026-01-01T12:00:00Z","mended":false,"difference":{"kind":"unknown","view":"probes","where":"node a object","want":"x","got":"no answer"}}'
echo '{"at":"2026-01-01T12:00:09Z","mended":true,"difference":{"kind":"drift","view":"live","where":"deployment shop-canary replicas","want":"0","got":"1"}}'
echo '{"looks":3,"drifts":1,"mended":1,"open":[]}'
`

func TestAWatcherFindsWhatItsCommandSays(t *testing.T) {
	begin := time.Now()
	w := startWatcher(t.Context(), here, exec.Command("sh", "-c", changes))
	defer w.close()
	<-w.done
	for name, tt := range map[string]struct {
		mended      bool
		view, where string
		since       time.Time
		want        bool
	}{
		"a drift":                     {false, "live", "shop-canary replicas", begin, true},
		"its end":                     {true, "live", "shop-canary", begin, true},
		"one of another view":         {false, "argocd", "shop-canary", begin, false},
		"what is unknown is no drift": {false, "probes", "node a", begin, false},
		"what was said before":        {false, "live", "shop-canary", time.Now().Add(time.Hour), false},
	} {
		if _, ok := w.find(tt.since, tt.mended, tt.view, tt.where); ok != tt.want {
			t.Errorf("%s: found is %v", name, ok)
		}
	}
	if said := w.said(begin); len(said) != 3 || !strings.Contains(said[0], "want 0, got 1 (sluice: sync)") || !strings.Contains(said[2], "mended") {
		t.Errorf("it said %q", said)
	}
}

func TestACommandThatEndedIsNotWaitedFor(t *testing.T) {
	w := startWatcher(t.Context(), here, exec.Command("sh", "-c", "echo no such cluster >&2; exit 4"))
	defer w.close()
	_, err := w.await(t.Context(), time.Minute, time.Now(), false, "live", "x")
	if err == nil || !strings.Contains(err.Error(), "no such cluster") {
		t.Errorf("the error is %v", err)
	}
}

func TestARouteIsAtRestWhenNothingGoesToTheCanary(t *testing.T) {
	ref := func(name string, weight int64) any { return map[string]any{"name": name, "weight": weight} }
	rule := func(refs ...any) map[string]any { return map[string]any{"backendRefs": refs} }
	rest, moved := rule(ref("web-stable", 100), ref("web-canary", 0)), rule(ref("web-stable", 99), ref("web-canary", 1))
	if weighed([]map[string]any{rest, rest}) || !weighed([]map[string]any{rest, moved}) || weighed(nil) {
		t.Error("a route is misread")
	}
}

func TestAnOldWordIsNotTakenForANewOne(t *testing.T) {
	before := application{
		Revision: "new", Operated: "old", Phase: "Failed", Message: "httproute of before",
		Conditions: []string{"SluiceVerdict: web 1.3.0: httproute web is not ours"}, Results: []string{"HTTPRoute web: of before"},
	}
	if before.argoSays("httproute", "new") {
		t.Error("what was said before counts")
	}
	for name, change := range map[string]func(*application){
		"a condition": func(a *application) { a.Conditions = append(a.Conditions, "SyncError: no HTTPRoute") },
		"an operation": func(a *application) {
			a.Operated = "new"
		},
	} {
		now := before
		change(&now)
		if !now.argoSays("httproute", "new") {
			t.Errorf("%s does not count", name)
		}
	}
}
