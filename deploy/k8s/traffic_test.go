package k8s

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestARolloutByWeights(t *testing.T) {
	w := newWorld(t, Service{Route: true, Header: true})
	w.image("2")
	target := w.open()
	if stable, canary := target.Images(); stable != "example.com/shop:1" || canary != "example.com/shop:2" {
		t.Errorf("images %q and %q", stable, canary)
	}
	const ending = -1 // pods that are no longer asked for
	step := func(name, weights string, canaries int, do func() error) {
		t.Helper()
		if err := do(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := w.weights(); got != weights {
			t.Errorf("%s: weights %s, want %s", name, got, weights)
		}
		if got := w.endpoints("shop-canary"); canaries != ending && got != canaries {
			t.Errorf("%s: %d canary endpoints, want %d", name, got, canaries)
		}
	}
	ctx := t.Context()
	step("started", "100:0 and 100:0", 1, func() error { return target.Start(ctx, 100) })
	step("header on", "0:100 and 100:0", 1, func() error { return target.Header(ctx, true) })
	step("header off", "100:0 and 100:0", 1, func() error { return target.Header(ctx, false) })
	step("one per cent", "100:0 and 9900:100", 1, func() error { return target.Shift(100) })
	step("60 per cent", "100:0 and 4000:6000", 2, func() error { return target.Shift(6000) })
	step("less", "100:0 and 9999:1", ending, func() error { return target.Shift(1) })
	step("promoted", "100:0 and 9999:1", 1, func() error {
		w.await("a pod is gone", func() bool { return w.endpoints("shop-canary") == 1 })
		return target.Shift(full)
	})
	step("isolated", "100:0 and 100:0", 1, target.Isolate)
	step("isolated again", "100:0 and 100:0", 1, target.Isolate)
	step("settled", "100:0 and 100:0", 0, func() error { return target.Settle(ctx) })
	step("settled again", "100:0 and 100:0", 0, func() error { return target.Settle(ctx) })
	w.atRest()
}

func TestARolloutByReplicas(t *testing.T) {
	w := newWorld(t, Service{})
	w.image("2")
	target := w.open()
	ctx := t.Context()
	if err := target.Start(ctx, 100); err != nil {
		t.Fatal(err)
	}
	if got := w.endpoints("shop"); got != 3 {
		t.Errorf("%d endpoints after the start, want 3", got)
	}
	if err := target.Shift(5000); err != nil {
		t.Fatal(err)
	}
	if got := w.endpoints("shop-canary"); got != 2 {
		t.Errorf("%d canary endpoints at half of the traffic beside 2 stable ones", got)
	}
	if err := target.Isolate(); err != nil {
		t.Fatal(err)
	}
	if got := w.endpoints("shop"); got != 2 {
		t.Errorf("%d endpoints after isolating, want the 2 stable ones", got)
	}
	if err := target.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	w.atRest()
}

func TestAShiftThatLacksPodsMovesNothing(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	w.image("2")
	w.quota(3)
	target := w.open()
	ctx, interrupt := context.WithCancel(t.Context())
	if err := errors.Join(target.Start(ctx, 100), target.Shift(100)); err != nil {
		t.Fatal(err)
	}
	target.svc.Ready = 3 * time.Second
	var e *NotReadyError
	if err := target.Shift(6000); !errors.As(err, &e) || e.Want != 2 || e.Have != 1 {
		t.Errorf("got %v", err)
	}
	if got := w.weights(); got != "9900:100" {
		t.Errorf("weights %s, want those of before", got)
	}
	time.AfterFunc(300*time.Millisecond, interrupt)
	target.svc.Ready = patient
	if err := target.Shift(7000); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted shift ends with %v", err)
	}
	if err := errors.Join(target.Isolate(), target.Settle(t.Context())); err != nil {
		t.Error(err)
	}
	w.atRest()
}
