package canary

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// A block that counts for nothing moves nothing: neither the evidence nor the
// rollout, whose deadline stays.
func TestABlockThatCountsForNothing(t *testing.T) {
	block := func(held string) (o Observation) {
		o.Start, o.End, o.Held = time.Unix(1000, 0), time.Unix(1010, 0), held
		return o
	}
	const why = "3 requests are missing"
	good, held := block(""), block(why)
	for name, tt := range map[string]struct {
		blocks  []Observation
		warmup  time.Duration
		promote bool
		looks   []string // why each counts for nothing
		shifts  []int
	}{
		"the step waits for one that counts": {
			blocks: []Observation{held, good, held, held, good}, promote: true,
			looks: []string{why, "", why, why, ""}, shifts: []int{1000, 5000, Full},
		},
		"there is none by the deadline": {
			blocks: slices.Repeat([]Observation{held}, 9),
			looks:  slices.Repeat([]string{why}, 6), shifts: []int{1000},
		},
		"in the warm-up": {
			blocks: []Observation{held, good, good}, warmup: 10 * time.Second, promote: true,
			looks: []string{why, "", ""}, shifts: []int{1000, 5000, Full},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{blocks: tt.blocks, says: []gate.Outcome{gate.Pass}}
			plan := twoSteps
			plan.Warmup = tt.warmup
			res, err := Rollout{Plan: plan, Target: s, Source: s, Judge: judge{s}}.Run(t.Context())
			if err != nil || res.Promote != tt.promote || (res.Verdict.Outcome == gate.Pass) != tt.promote {
				t.Errorf("promote %v, %v: %v", res.Promote, res.Verdict.Outcome, err)
			}
			if !tt.promote && (res.Verdict.Outcome != gate.Inconclusive || !strings.Contains(res.Reason, why)) {
				t.Errorf("%v: %s", res.Verdict.Outcome, res.Reason)
			}
			var looks []string
			for _, l := range res.Looks {
				looks = append(looks, l.Held)
			}
			if !slices.Equal(looks, tt.looks) || !slices.Equal(s.weights, tt.shifts) {
				t.Errorf("looks %q, shifts %v", looks, s.weights)
			}
		})
	}
}

// What a gate makes of such a block: nothing.
func TestABlockThatCountsForNothingIsNoEvidence(t *testing.T) {
	g, err := gate.New(gate.Config{})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Unix(1000, 0)
	next := func(requests int) gate.Verdict {
		b := gate.Block{Start: start, End: start.Add(time.Second)}
		start = b.End
		for _, a := range []*gate.Arm{&b.Baseline, &b.Canary} {
			a.Requests, a.Errors = uint64(requests), uint64(requests/10)
			for i := range requests {
				a.Latency.Observe(time.Duration(1+i%7) * time.Millisecond)
			}
		}
		return g.Observe(b)
	}
	var before gate.Verdict
	for range 20 {
		before = next(50)
	}
	for range 20 {
		after := next(0)
		if after.Outcome != before.Outcome || after.Odds != before.Odds || leastPassOdds(after) != leastPassOdds(before) || after.CanaryRequests != before.CanaryRequests {
			t.Fatalf("%v at %g and %g, it was %v at %g and %g", after.Outcome, after.Odds, leastPassOdds(after), before.Outcome, before.Odds, leastPassOdds(before))
		}
	}
	if before.Odds == 0 || leastPassOdds(before) == 1 {
		t.Error("there was no evidence to begin with")
	}
}
