package canary

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/gate"
)

var twoSteps = Plan{
	Steps:    []Step{{Weight: 1000, Min: 5 * time.Second}, {Weight: 5000, Min: 5 * time.Second}},
	Deadline: time.Minute,
}

func TestDecide(t *testing.T) {
	const sec = time.Second
	for name, tt := range map[string]struct {
		in   State
		o    gate.Outcome
		want Action
		next State
	}{
		"a pass before the least time holds":          {State{0, 3 * sec, 3 * sec}, gate.Pass, Hold, State{0, 4 * sec, 4 * sec}},
		"a pass after the least time goes on":         {State{0, 4 * sec, 4 * sec}, gate.Pass, Advance, State{1, 0, 5 * sec}},
		"a pass on the last step promotes":            {State{1, 4 * sec, 9 * sec}, gate.Pass, Promote, State{1, 5 * sec, 10 * sec}},
		"a fail rolls back at once":                   {State{0, 0, 0}, gate.Fail, RollBack, State{0, sec, sec}},
		"an untrusted measurement rolls back at once": {State{1, 4 * sec, 9 * sec}, gate.Invalid, RollBack, State{1, 5 * sec, 10 * sec}},
		"thin evidence holds":                         {State{1, 30 * sec, 40 * sec}, gate.Inconclusive, Hold, State{1, 31 * sec, 41 * sec}},
		"no data holds":                               {State{0, 0, 0}, gate.NoData, Hold, State{0, sec, sec}},
		"thin evidence for too long rolls back":       {State{1, 30 * sec, 59 * sec}, gate.Inconclusive, RollBack, State{1, 31 * sec, 60 * sec}},
		"no data for too long rolls back":             {State{0, 59 * sec, 59 * sec}, gate.NoData, RollBack, State{0, 60 * sec, 60 * sec}},
		"a pass at the very deadline still counts":    {State{1, 30 * sec, 59 * sec}, gate.Pass, Promote, State{1, 31 * sec, 60 * sec}},
		"a pass too early at the deadline rolls back": {State{1, 2 * sec, 59 * sec}, gate.Pass, RollBack, State{1, 3 * sec, 60 * sec}},
	} {
		t.Run(name, func(t *testing.T) {
			got, next := Decide(twoSteps, tt.in, sec, tt.o)
			if got != tt.want {
				t.Errorf("action %v, want %v", got, tt.want)
			}
			if diff := cmp.Diff(tt.next, next); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Whatever the gate says and in whatever order, a rollout ends by its deadline,
// and only a pass ever moves it forward.
func TestDecideEndsByTheDeadline(t *testing.T) {
	outcomes := []gate.Outcome{gate.Inconclusive, gate.NoData, gate.Pass, gate.Fail, gate.Invalid}
	for seed := range 1 << 12 {
		s, n := State{}, seed
		for round := 0; ; round++ {
			o := outcomes[n%len(outcomes)]
			n = n/len(outcomes) + seed*31
			a, next := Decide(twoSteps, s, time.Second, o)
			if (a == Promote || a == Advance) && o != gate.Pass {
				t.Fatalf("seed %d: %v on %v", seed, a, o)
			}
			if a == Promote || a == RollBack {
				break
			}
			if s = next; time.Duration(round)*time.Second > twoSteps.Deadline {
				t.Fatalf("seed %d: still going after the deadline: %+v", seed, s)
			}
		}
	}
}

func TestPlanValidate(t *testing.T) {
	for name, tt := range map[string]struct {
		plan Plan
		ok   bool
	}{
		"two rising steps":            {twoSteps, true},
		"no step":                     {Plan{Deadline: time.Minute}, false},
		"a weight that does not rise": {Plan{Steps: []Step{{Weight: 50}, {Weight: 50}}, Deadline: time.Minute}, false},
		"a weight above everything":   {Plan{Steps: []Step{{Weight: Full + 1}}, Deadline: time.Minute}, false},
		"a deadline before the end":   {Plan{Steps: []Step{{Weight: 1, Min: time.Hour}}, Deadline: time.Minute}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tt.plan.Validate(); (err == nil) != tt.ok {
				t.Errorf("Validate: %v", err)
			}
		})
	}
}
