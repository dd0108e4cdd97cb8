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
		"a pass before the least time holds":                    {State{Step: 0, On: 3 * sec, For: 3 * sec}, gate.Pass, Hold, State{Step: 0, On: 4 * sec, For: 4 * sec}},
		"a pass after the least time goes on":                   {State{Step: 0, On: 4 * sec, For: 4 * sec}, gate.Pass, Advance, State{Step: 1, On: 0, For: 5 * sec}},
		"a pass on the last step promotes":                      {State{Step: 1, On: 4 * sec, For: 9 * sec}, gate.Pass, Promote, State{Step: 1, On: 5 * sec, For: 10 * sec}},
		"a fail rolls back at once":                             {State{Step: 0, On: 0, For: 0}, gate.Fail, RollBack, State{Step: 0, On: sec, For: sec}},
		"an untrusted measurement rolls back at once":           {State{Step: 1, On: 4 * sec, For: 9 * sec}, gate.Invalid, RollBack, State{Step: 1, On: 5 * sec, For: 10 * sec}},
		"thin evidence holds":                                   {State{Step: 1, On: 30 * sec, For: 40 * sec}, gate.Inconclusive, Hold, State{Step: 1, On: 31 * sec, For: 41 * sec}},
		"no data holds":                                         {State{Step: 0, On: 0, For: 0}, gate.NoData, Hold, State{Step: 0, On: sec, For: sec}},
		"thin evidence for too long rolls back":                 {State{Step: 1, On: 30 * sec, For: 59 * sec}, gate.Inconclusive, RollBack, State{Step: 1, On: 31 * sec, For: 60 * sec}},
		"no data for too long rolls back":                       {State{Step: 0, On: 59 * sec, For: 59 * sec}, gate.NoData, RollBack, State{Step: 0, On: 60 * sec, For: 60 * sec}},
		"a pass at the very deadline still counts":              {State{Step: 1, On: 30 * sec, For: 59 * sec}, gate.Pass, Promote, State{Step: 1, On: 31 * sec, For: 60 * sec}},
		"a pass counts for nothing while the target gets ready": {State{Step: 1, For: 9 * sec, Waiting: true}, gate.Pass, Hold, State{Step: 1, For: 10 * sec, Waiting: true}},
		"a fail counts while the target gets ready":             {State{Step: 1, For: 9 * sec, Waiting: true}, gate.Fail, RollBack, State{Step: 1, For: 10 * sec, Waiting: true}},
		"a target that is not ready by the deadline rolls back": {State{Step: 1, For: 59 * sec, Waiting: true}, gate.Pass, RollBack, State{Step: 1, For: 60 * sec, Waiting: true}},

		"a pass from before a time of which nothing is known holds": {State{Step: 1, On: 9 * sec, For: 9 * sec, Held: true}, gate.Pass, Hold, State{Step: 1, On: 9 * sec, For: 10 * sec, Held: true}},
		"that time counts for the deadline":                         {State{Step: 1, On: 9 * sec, For: 59 * sec, Held: true}, gate.Pass, RollBack, State{Step: 1, On: 9 * sec, For: 60 * sec, Held: true}},
		"a fail is one all the same":                                {State{Step: 1, On: 9 * sec, For: 9 * sec, Held: true}, gate.Fail, RollBack, State{Step: 1, On: 9 * sec, For: 10 * sec, Held: true}},
		"a pass too early at the deadline rolls back":               {State{Step: 1, On: 2 * sec, For: 59 * sec}, gate.Pass, RollBack, State{Step: 1, On: 3 * sec, For: 60 * sec}},
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
