package k8s

import (
	"context"
	"errors"
	"testing"
	"time"
)

// outage takes the API server away for a while and returns when it is back.
func (w *world) outage(d time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patient)
	defer cancel()
	w.plane.Stop()
	time.Sleep(d)
	if err := w.plane.Start(ctx); err != nil {
		w.t.Error(err)
	}
	if err := w.plane.Controllers(ctx); err != nil {
		w.t.Error(err)
	}
}

// during runs do while the API server is away.
func (w *world) during(what string, do func() error) {
	w.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); w.outage(time.Second) }()
	time.Sleep(100 * time.Millisecond)
	began := time.Now()
	if err := do(); err != nil {
		w.t.Errorf("%s during an outage: %v", what, err)
	}
	w.t.Logf("%s took %v", what, time.Since(began).Round(time.Millisecond))
	<-done
}

func TestAnAPIServerThatRestartsIsWaitedFor(t *testing.T) {
	for name, s := range map[string]Service{"route": {Route: true, Ready: 3 * patient}, "replicas": {Ready: 3 * patient}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s)
			w.image("2")
			target := w.open()
			if err := target.Start(t.Context(), 100); err != nil {
				t.Fatal(err)
			}
			gone := target.Gone()
			w.during("shifting", func() error { return target.Shift(5500) })
			select {
			case <-gone:
				t.Error("an API server that is away was taken for a canary that is gone")
			default:
			}
			w.during("isolating", target.Isolate)
			w.during("settling", func() error { return target.Settle(t.Context()) })
			w.atRest()
		})
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	w := newWorld(t, Service{})
	target := w.open()
	w.plane.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := target.Settle(ctx)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ends with %v, want the end of its context", err)
	}
	w.outage(0)
}
