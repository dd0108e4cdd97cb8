package k8s

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// TestWhatOthersWriteIsNotOverwritten has somebody else interfere with a rollout
// that stands at 20 %. Isolating works all the same.
func TestWhatOthersWriteIsNotOverwritten(t *testing.T) {
	const stable = `{"name":"shop-stable","port":80,"weight":%}`
	rules := func(refs string) string { return `{"spec":{"rules":[{"backendRefs":[` + refs + `]}]}}` }
	backends := func(s, c string) string {
		return strings.Replace(stable, "%", s, 1) + "," + strings.Replace(strings.Replace(stable, "stable", "canary", 1), "%", c, 1)
	}
	for name, tt := range map[string]struct {
		path, body string
		want       string
		weights    string
	}{
		"weights": {
			"route", rules(backends("50", "50")),
			"httproute shop was changed during the rollout by jane: from weight 20 % to stable:canary 50:50", "50:50",
		},
		"weights in our scale": {
			"route", rules(backends("5000", "5000")),
			"httproute shop was changed during the rollout by jane: from weight 20 % to weight 50 %", "5000:5000",
		},
		"a third backend": {
			"route", rules(backends("8000", "2000") + "," + strings.NewReplacer("shop-stable", "old", "%", "7").Replace(stable)),
			"httproute shop has a rule (number 1) with shop-canary but not exactly the two backends shop-stable and shop-canary", "",
		},
		"the canary's replicas": {
			"canary", `{"spec":{"replicas":3}}`,
			"deployment shop-canary was changed during the rollout by jane: from 1 replicas to 3", "8000:2000",
		},
		"the canary's image": {
			"canary", `{"spec":{"template":{"spec":{"containers":[{"name":"shop","image":"example.com/shop:3"}]}}}}`,
			"the image of deployment shop-canary was changed during the rollout by jane: from example.com/shop:2 to example.com/shop:3", "8000:2000",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Service{Route: true})
			w.image("2")
			target := w.open()
			if err := errors.Join(target.Start(t.Context(), 2000), target.Shift(2000)); err != nil {
				t.Fatal(err)
			}
			path := w.asAdmin().routePath()
			if tt.path == "canary" {
				path = w.asAdmin().deploymentPath("shop-canary")
			}
			w.patch("jane", path, tt.body)
			if err := target.Shift(5000); err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if tt.weights != "" && w.weights() != tt.weights {
				t.Errorf("weights %s, want %s", w.weights(), tt.weights)
			}
			if err := target.Isolate(); err != nil {
				t.Error(err)
			}
			if r, err := w.asAdmin().readRoute(t.Context(), true); err != nil || !strings.Contains(string(r.Spec.Rules[0].BackendRefs), `"name":"shop-canary","port":80,"weight":0`) {
				t.Errorf("after isolating: %v, rules %s", err, r.Spec.Rules[0].BackendRefs)
			}
			if err := target.Settle(t.Context()); err != nil {
				t.Error(err)
			}
			w.untouched()
		})
	}
}

func TestAWriteBetweenReadingAndWritingIsSeen(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	target := w.open()
	reads := 0
	err := target.rewrite(t.Context(), false, func(r *route) ([]op, error) {
		if reads++; reads == 2 {
			return nil, nil
		}
		pairs, err := r.pairs(w.svc)
		if err != nil {
			return nil, err
		}
		ops := r.patch(pairs, traffic{weight: 1000})
		w.patch("jane", target.routePath(), `{"spec":{"rules":[{"backendRefs":[{"name":"shop-stable","port":80,"weight":3},{"name":"shop-canary","port":80,"weight":1}]}]}}`)
		return ops, nil
	}, traffic{})
	if err != nil || reads != 2 {
		t.Errorf("%d reads: %v", reads, err)
	}
	if got := w.weights(); got != "3:1" {
		t.Errorf("weights %s, want those of the other", got)
	}
	d := w.deployment("shop-canary")
	w.patch("jane", target.deploymentPath("shop-canary"), `{"spec":{"replicas":2}}`)
	if err := target.applyScale(t.Context(), d, 1, false); err == nil || w.canaries() != 2 {
		t.Errorf("%d canaries: %v", w.canaries(), err)
	}
}

func TestOfTwoTargetsOneGivesUp(t *testing.T) {
	for name, s := range map[string]Service{"route": {Route: true}, "replicas": {}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s)
			w.image("2")
			first, second := w.open(), w.open()
			if err := first.Start(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
			var changed *ChangedError
			if s.Route {
				if err := second.Start(t.Context(), 100); !errors.As(err, &changed) || !strings.Contains(err.Error(), "by another rollout of sluice") {
					t.Errorf("the second: %v", err)
				}
			} else if err := second.Start(t.Context(), 6000); !errors.As(err, &changed) || !strings.Contains(err.Error(), "by sluice: from 0 replicas to 1") {
				t.Errorf("the second: %v", err)
			}
			if err := first.Shift(5000); err != nil {
				t.Errorf("the first: %v", err)
			}
			// An operator takes the release back beside the running rollout.
			if err := second.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := first.Shift(6000); !errors.As(err, &changed) {
				t.Errorf("the first after a rollback by hand: %v", err)
			}
			w.atRest()
		})
	}
}

func TestARolloutThatWasTakenBackBeforeItsFirstWeightSetsNone(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	w.image("2")
	first, second := w.open(), w.open()
	if err := first.Start(t.Context(), 100); err != nil {
		t.Fatal(err)
	}
	if err := second.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Its pods were there when it looked, and it is about to write.
	var changed *ChangedError
	if err := first.divide(t.Context(), traffic{weight: 100}); !errors.As(err, &changed) || !strings.Contains(err.Error(), "by another rollout of sluice") {
		t.Errorf("got %v", err)
	}
	w.atRest()
}

func TestWhatIsGoneNeedsNoIsolating(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	target := w.open()
	w.remove(target.routePath())
	w.remove(target.deploymentPath("shop-canary"))
	if err := errors.Join(target.Isolate(), target.Settle(t.Context())); err != nil {
		t.Error(err)
	}
	if err := target.Start(t.Context(), 100); err == nil || !strings.Contains(err.Error(), "has no httproute shop") {
		t.Errorf("starting without a route: %v", err)
	}
}

func TestARouteOfSomebodyElseIsNotSettled(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	target := w.open()
	if err := errors.Join(target.Start(t.Context(), 2000), target.Shift(2000)); err != nil {
		t.Fatal(err)
	}
	w.patch("helm", target.routePath(), `{"metadata":{"labels":{"app.kubernetes.io/managed-by":"helm"}}}`)
	var foreign *apiserver.ForeignError
	if err := target.Isolate(); !errors.As(err, &foreign) {
		t.Errorf("isolating: %v", err)
	}
	if err := target.Settle(t.Context()); !errors.As(err, &foreign) {
		t.Errorf("settling: %v", err)
	}
	if n := w.canaries(); n != 0 {
		t.Errorf("%d canaries are left", n)
	}
}
