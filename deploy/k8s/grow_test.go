package k8s

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/gate"
)

// clients is a source of what the two versions answered in blocks of 100 ms. The
// canary turns bad as soon as more pods of it are asked for.
type clients struct {
	w    *world
	bad  bool
	seen []string // weights during the blocks that were bad
}

func (s *clients) Observe(ctx context.Context) (canary.Observation, error) {
	var o canary.Observation
	o.Start = time.Now()
	if err := wait(ctx, 100*time.Millisecond); err != nil {
		return o, err
	}
	o.End = time.Now()
	for _, arm := range []*gate.Arm{&o.Baseline, &o.Canary} {
		arm.Requests = 500
		for range arm.Requests {
			arm.Latency.Observe(time.Millisecond)
		}
	}
	if s.bad = s.bad || s.w.canaries() > 1; s.bad {
		o.Canary.Errors = 400
		if s.w.svc.Route {
			s.seen = append(s.seen, s.w.weights())
		}
	}
	return o, nil
}

// TestACanaryThatTurnsBadWhilePodsComeUpIsTakenBackAtOnce has a second pod of
// which the quota allows none, and an hour to wait for it.
func TestACanaryThatTurnsBadWhilePodsComeUpIsTakenBackAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		service Service
		steps   []canary.Step
		step    int // that is waited for
	}{
		"more weight of a route":   {Service{Route: true}, []canary.Step{{Weight: 1000}, {Weight: 6000}}, 1},
		"more pods":                {Service{}, []canary.Step{{Weight: 1000}, {Weight: 6000}}, 1},
		"the first weight by pods": {Service{}, []canary.Step{{Weight: 6000}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			tt.service.Ready = time.Hour
			w := newWorld(t, tt.service)
			w.image("2")
			w.quota(3)
			target := w.open()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			plan := canary.Plan{Steps: tt.steps, Deadline: time.Hour}
			if err := target.Start(ctx, plan.Steps[0].Weight); err != nil {
				t.Fatal(err)
			}
			g, err := gate.New(gate.Config{})
			if err != nil {
				t.Fatal(err)
			}
			src := &clients{w: w}
			r, err := canary.Rollout{Plan: plan, Target: target, Source: src, Judge: g}.Run(ctx)
			if err != nil || r.Verdict.Outcome != gate.Fail || r.Trigger != canary.SLO {
				t.Fatalf("%v by %q (%s): %v", r.Verdict.Outcome, r.Trigger, r.Reason, err)
			}
			last := r.Looks[len(r.Looks)-1]
			if !last.Waiting || last.Step != tt.step || !src.bad {
				t.Errorf("it was seen at %+v", last)
			}
			for _, weights := range src.seen {
				if weights != "9000:1000" {
					t.Errorf("weights %s while it was bad", weights)
				}
			}
			if w.svc.Route && w.weights() != "100:0" || !w.svc.Route && w.endpoints("shop") != 2 {
				t.Error("traffic is still on it")
			}
			if err := target.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.atRest()
		})
	}
}

func TestPreparing(t *testing.T) {
	w := newWorld(t, Service{Route: true, Ready: time.Minute})
	w.image("2")
	target := w.open()
	if err := errors.Join(target.Start(t.Context(), 100), target.Shift(100)); err != nil {
		t.Fatal(err)
	}
	prepared := func(weight int) (n int) {
		for ; ; n++ {
			ready, err := target.Prepare(weight)
			if err != nil {
				t.Fatal(err)
			}
			if ready {
				return n
			}
			time.Sleep(poll)
		}
	}
	if n := prepared(200); n != 0 {
		t.Errorf("what needs no more pods was asked for %d times", n)
	}
	w.during("preparing", func() error { prepared(6000); return nil })
	if w.weights() != "9900:100" || w.endpoints("shop-canary") != 2 {
		t.Errorf("weights %s and %d pods", w.weights(), w.endpoints("shop-canary"))
	}
	// One that is not ready for a moment is not waited for any more.
	w.nodes.crash()
	w.await("it has crashed", func() bool { return w.endpoints("shop-canary") == 0 })
	if err := target.Shift(6000); err != nil || w.weights() != "4000:6000" {
		t.Errorf("weights %s: %v", w.weights(), err)
	}
	w.patch("jane", target.deploymentPath("shop-canary"), `{"spec":{"replicas":3}}`)
	var changed *ChangedError
	if _, err := target.Prepare(9000); !errors.As(err, &changed) {
		t.Errorf("what somebody else scaled: %v", err)
	}
}

func TestPodsThatDoNotComeUpInTimeEndThePreparing(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	w.image("2")
	w.quota(3)
	target := w.open()
	if err := errors.Join(target.Start(t.Context(), 100), target.Shift(100)); err != nil {
		t.Fatal(err)
	}
	target.svc.Ready = 3 * time.Second
	for {
		ready, err := target.Prepare(6000)
		if err == nil && !ready {
			time.Sleep(poll)
			continue
		}
		var e *NotReadyError
		if ready || !errors.As(err, &e) || e.Want != 2 || e.Have != 1 || !has(e.Why, "exceeded quota") && !has(e.Why, "ready") {
			t.Errorf("ready %v: %v", ready, err)
		}
		break
	}
	if w.weights() != "9900:100" {
		t.Errorf("weights %s", w.weights())
	}
}

func TestAScaleWhoseAnswerWasLostIsOurs(t *testing.T) {
	w := newWorld(t, Service{})
	target := w.open()
	target.asked = 2 // it was written, and nobody was told
	w.patch(apiserver.Manager, target.deploymentPath("shop-canary"), `{"spec":{"replicas":2}}`)
	if err := target.scale(t.Context(), 2, false); err != nil {
		t.Error(err)
	}
	w.patch("jane", target.deploymentPath("shop-canary"), `{"spec":{"replicas":3}}`)
	var changed *ChangedError
	if err := target.scale(t.Context(), 3, false); !errors.As(err, &changed) {
		t.Errorf("what somebody else wrote is taken for ours: %v", err)
	}
}
