package canary

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/gate"
)

// slow is a target that is ready for a weight only when it was asked often
// enough.
type slow struct {
	*script
	takes map[int]int // weight to how often it has to be asked
	err   error       // instead, when it was
	asked map[int]int
}

func (s *slow) Prepare(weight int) (bool, error) {
	s.asked[weight]++
	switch {
	case s.asked[weight] <= s.takes[weight]:
		return false, nil
	case s.takes[weight] > 0 && s.err != nil:
		return false, s.err
	}
	return true, nil
}

// TestATargetThatGetsReadyIsWatched has a canary that passed at the first weight
// and has to wait for the second one.
func TestATargetThatGetsReadyIsWatched(t *testing.T) {
	begin := time.Unix(1000, 0)
	blocks := func() (list []Observation) {
		for range 8 {
			var o Observation
			o.Start, o.End = begin, begin.Add(10*time.Second)
			list = append(list, o)
		}
		return list
	}
	never := errors.New("no room for it")
	for name, tt := range map[string]struct {
		says    []gate.Outcome
		takes   map[int]int
		err     error
		weights []int // that the looks were at
		waiting []bool
		shifts  []int
		steps   int
		outcome gate.Outcome
		promote bool
	}{
		"it comes up, and what passed at the first weight passes again": {
			says: []gate.Outcome{gate.Pass}, takes: map[int]int{5000: 2}, promote: true, outcome: gate.Pass, steps: 1,
			weights: []int{1000, 1000, 1000, 5000}, waiting: []bool{false, true, true, false}, shifts: []int{1000, 5000, Full},
		},
		"it turns bad while its second weight is prepared": {
			says: []gate.Outcome{gate.Pass, gate.Pass, gate.Fail}, takes: map[int]int{5000: 20}, outcome: gate.Fail,
			weights: []int{1000, 1000, 1000}, waiting: []bool{false, true, true}, shifts: []int{1000},
		},
		"it turns bad before its first weight": {
			says: []gate.Outcome{gate.Inconclusive, gate.Fail}, takes: map[int]int{1000: 20}, outcome: gate.Fail,
			weights: []int{0, 0}, waiting: []bool{true, true},
		},
		"what passed before the first weight passes again": {
			says: []gate.Outcome{gate.Pass}, takes: map[int]int{1000: 1}, promote: true, outcome: gate.Pass, steps: 2,
			weights: []int{0, 1000, 5000}, waiting: []bool{true, false, false}, shifts: []int{1000, 5000, Full},
		},
		"it never comes up": {
			says: []gate.Outcome{gate.Pass}, takes: map[int]int{5000: 2}, err: never, outcome: gate.Invalid,
			weights: []int{1000, 1000, 1000}, waiting: []bool{false, true, true}, shifts: []int{1000},
		},
		"it is not there by the deadline": {
			says: []gate.Outcome{gate.Pass}, takes: map[int]int{5000: 20}, outcome: gate.Inconclusive,
			weights: []int{1000, 1000, 1000, 1000, 1000, 1000}, waiting: []bool{false, true, true, true, true, true}, shifts: []int{1000},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{blocks: blocks(), says: tt.says}
			target := &slow{script: s, takes: tt.takes, err: tt.err, asked: map[int]int{}}
			res, err := Rollout{Plan: twoSteps, Target: target, Source: s, Judge: judge{s}}.Run(t.Context())
			if !errors.Is(err, tt.err) || res.Promote != tt.promote || res.Verdict.Outcome != tt.outcome {
				t.Errorf("promote %v, %v: %v", res.Promote, res.Verdict.Outcome, err)
			}
			var weights []int
			var waiting []bool
			for _, l := range res.Looks {
				weights, waiting = append(weights, l.Weight), append(waiting, l.Waiting)
			}
			if !slices.Equal(weights, tt.weights) || !slices.Equal(waiting, tt.waiting) {
				t.Errorf("looks at %v, waiting %v", weights, waiting)
			}
			if diff := cmp.Diff(tt.shifts, s.weights); diff != "" || s.next != tt.steps || s.off == tt.promote {
				t.Errorf("new evidence was asked for %d times, isolated: %v, %s", s.next, s.off, diff)
			}
		})
	}
}

// A rollout that is not promoted is recorded as anything but a pass.
func TestOnlyWhatIsPromotedHasPassed(t *testing.T) {
	var o Observation
	o.Start, o.End = time.Unix(1000, 0), time.Unix(1010, 0)
	late := Plan{Steps: []Step{{Weight: 5000, Min: 10 * time.Second}}, Deadline: 30 * time.Second, Warmup: 5 * time.Second}
	for name, tt := range map[string]struct {
		plan   Plan
		blocks []Observation
		target func(*script) Target
		want   gate.Outcome
	}{
		"a pass too early, at the deadline": {
			Plan{Steps: []Step{{Weight: 5000, Min: 15 * time.Second}}, Deadline: 20 * time.Second, Warmup: 5 * time.Second},
			[]Observation{o, o},
			func(s *script) Target { return s }, gate.Inconclusive,
		},
		"a target that does not promote": {late, []Observation{o, o}, func(s *script) Target { return stubborn{s} }, gate.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{blocks: tt.blocks, says: []gate.Outcome{gate.Pass}}
			res, _ := Rollout{Plan: tt.plan, Target: tt.target(s), Source: s, Judge: judge{s}}.Run(context.Background())
			if res.Promote || res.Verdict.Outcome != tt.want || !s.off {
				t.Errorf("promote %v, %v (%s)", res.Promote, res.Verdict.Outcome, res.Verdict.Reason)
			}
		})
	}
}

// stubborn does not promote.
type stubborn struct{ *script }

func (s stubborn) Shift(weight int) error {
	if weight == Full {
		return errors.New("no")
	}
	return nil
}
