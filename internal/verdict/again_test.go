package verdict

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
)

// traffic is a source of good blocks, and a target that has to be asked for a
// weight again and again.
type traffic struct {
	now   time.Time
	waits int
}

func (s *traffic) Observe(context.Context) (canary.Observation, error) {
	var o canary.Observation
	o.Start, o.End = s.now, s.now.Add(time.Second)
	s.now = o.End
	for _, arm := range []*gate.Arm{&o.Baseline, &o.Canary} {
		arm.Requests = 200
		for range arm.Requests {
			arm.Latency.Observe(time.Millisecond)
		}
	}
	return o, nil
}

func (s *traffic) Shift(int) error       { return nil }
func (s *traffic) Isolate() error        { return nil }
func (s *traffic) Gone() <-chan struct{} { return nil }

func (s *traffic) Prepare(int) (bool, error) {
	s.waits++
	return s.waits%4 == 0, nil
}

func TestARolloutThatWaitedIsJudgedAgainAsItWas(t *testing.T) {
	cfg := Gate(deploy().Gate)
	g, err := gate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &traffic{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	plan := Plan(deploy().Canary)
	plan.Deadline = time.Hour
	res, err := canary.Rollout{Plan: plan, Target: s, Source: s, Judge: g}.Run(t.Context())
	if err != nil || !res.Promote {
		t.Fatalf("%+v: %v", res.Verdict, err)
	}
	if !slices.ContainsFunc(res.Looks, func(l canary.Look) bool {
		return l.Waiting && l.Weight == 1000 && strings.HasSuffix(Line(l), "waiting for what step 2 takes")
	}) {
		t.Errorf("no look waited for the second step")
	}
	for n := len(res.Looks); n > 3; n-- { // at whatever look it is asked
		again, err := Again(cfg, res.Looks[:n])
		if err != nil {
			t.Fatal(err)
		}
		if last := res.Looks[n-1]; again.Outcome != last.Outcome || again.Odds != last.Odds {
			t.Errorf("look %d: %v at odds %g, it was %v at %g", n, again.Outcome, again.Odds, last.Outcome, last.Odds)
		}
	}
	again, err := Again(cfg, res.Looks)
	if diff := cmp.Diff(res.Verdict, again); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}
