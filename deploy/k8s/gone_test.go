package k8s

import (
	"testing"
	"time"
)

func TestGone(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(*world)
		gone bool
	}{
		"all its pods crash": {func(w *world) { w.nodes.crash() }, true},
		"its Deployment was deleted": {func(w *world) {
			w.remove(w.asAdmin().deploymentPath("shop-canary"))
		}, true},
		"somebody scaled it to zero": {func(w *world) {
			w.patch("jane", w.asAdmin().deploymentPath("shop-canary"), `{"spec":{"replicas":0}}`)
		}, true},
		"a pod is replaced": {func(w *world) {
			pods, err := w.asAdmin().pods(w.t.Context(), "canary")
			if err != nil || len(pods) == 0 {
				w.t.Fatal(err)
			}
			w.remove(w.asAdmin().corePath("pods/" + pods[0].Name))
		}, false},
		"it is merely not ready": {func(w *world) { w.image("unwell") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, Service{})
			w.image("2")
			target := w.open()
			if err := target.Start(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
			gone := target.Gone()
			tt.do(w)
			patience := 2 * time.Second
			if tt.gone {
				patience = patient
			}
			select {
			case <-gone:
				if !tt.gone {
					t.Error("it is taken for gone")
				}
			case <-time.After(patience):
				if tt.gone {
					t.Error("it is not seen to be gone")
				}
			}
			if err := target.Settle(t.Context()); err != nil {
				t.Error(err)
			}
			w.untouched()
		})
	}
}
