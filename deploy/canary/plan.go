// Package canary moves a release from no traffic to all of it, or back to none.
//
// [Decide] is the whole rollout policy: it does no I/O and reads no clock. [Run]
// does nothing but obey it: it asks a [Source] for one block of measurements at
// a time, hands it to a [Judge], and tells a [Target] what was decided. Where the
// traffic really goes is the target's business, what counts as worse is the
// gate's.
package canary

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// Full is the weight of a version that gets every new connection: weights are
// given in ten-thousandths of the new connections.
const Full = 10000

// Step is one rung of a rollout: the share of new connections that the canary
// gets, and the least time it stays there.
type Step struct {
	Weight int           // in ten-thousandths, 1 … Full
	Min    time.Duration // least time on this step
}

// Plan is the policy of a rollout. Weights rise from step to step.
type Plan struct {
	Steps    []Step
	Warmup   time.Duration // at the start, measured and recorded but not judged
	Deadline time.Duration // for the whole rollout: without a pass by then, back
}

// Validate says what is wrong with a plan.
func (p Plan) Validate() error {
	if len(p.Steps) == 0 {
		return errors.New("a rollout needs at least one step")
	}
	last, total := 0, p.Warmup
	for i, s := range p.Steps {
		if s.Weight <= last || s.Weight > Full {
			return fmt.Errorf("step %d: weight %d is not between the step before (%d) and %d", i+1, s.Weight, last, Full)
		}
		last, total = s.Weight, total+s.Min
	}
	if p.Deadline < total {
		return fmt.Errorf("deadline %v is shorter than the warm-up and the steps together (%v)", p.Deadline, total)
	}
	return nil
}

// State is where a rollout stands.
type State struct {
	Step    int           // index into Plan.Steps
	On      time.Duration // time on this step
	For     time.Duration // time since the canary got its first traffic
	Waiting bool          // for the target to be ready for this step: the weight is still that of the one before
	Held    bool          // nothing is known of the time that has just passed
}

// Action is what a target has to do next.
type Action int

// The actions of a rollout.
const (
	Hold Action = iota // stay on this step and look again
	Advance
	Promote
	RollBack
)

func (a Action) String() string {
	return [...]string{"hold", "advance", "promote", "roll back"}[a]
}

// Decide returns the next action and state for one round, in which the given
// time passed and at whose end the gate gave the outcome o.
//
// Only a pass moves forward. A fail and an invalid measurement roll back at
// once; inconclusive and no-data hold until the deadline and then roll back. So
// does a pass at the weight of the step before, which says nothing of this one,
// and one before a time of which nothing is known, which is no time on a step.
func Decide(p Plan, s State, passed time.Duration, o gate.Outcome) (Action, State) {
	s.For += passed
	seen := !s.Waiting && !s.Held
	if seen {
		s.On += passed
	}
	passes := o == gate.Pass && seen && s.On >= p.Steps[s.Step].Min
	switch {
	case o == gate.Fail || o == gate.Invalid:
		return RollBack, s
	case passes && s.Step == len(p.Steps)-1:
		return Promote, s
	case passes:
		return Advance, State{Step: s.Step + 1, For: s.For}
	case s.For >= p.Deadline:
		return RollBack, s
	}
	return Hold, s
}
