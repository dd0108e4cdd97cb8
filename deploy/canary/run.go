package canary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// Rollout is one run of a plan.
type Rollout struct {
	Plan   Plan
	Target Target
	Source Source
	Judge  Judge
	Report func(Look)       // called after every look; may be nil
	Now    func() time.Time // time.Now if nil
}

// Run shifts traffic step by step until the judge passed the last step or gave
// a reason to go back. Traffic leaves the canary before Run returns without a
// promotion, also when ctx ends (an operator's interrupt) and when Run returns
// an error. It says that a target did not obey, or is the temporary one of a
// source: then there is no verdict, and the rollout may be tried again.
func (r Rollout) Run(ctx context.Context) (Result, error) {
	if err := r.Plan.Validate(); err != nil {
		return Result{}, err
	}
	if r.Now == nil {
		r.Now = time.Now
	}
	run := rollout{Rollout: r}
	err := run.steps(ctx)
	if err == nil && run.res.Promote {
		return run.res, nil
	}
	run.unproven(err)
	if isolateErr := r.Target.Isolate(); isolateErr != nil {
		return run.res, errors.Join(err, fmt.Errorf("taking traffic off the canary: %w", isolateErr))
	}
	run.res.Timeline.Traffic = r.Now()
	return run.res, err
}

// unproven takes back what the judge said last, if an error ended the rollout
// after it: a pass was of an earlier step, or of a canary that gets no more. If
// the error is temporary there is no verdict at all.
func (r *rollout) unproven(err error) {
	v := &r.res.Verdict
	switch {
	case temporary(err):
		v.Outcome, v.Reason = gate.Inconclusive, err.Error()
		r.res.Reason = v.Reason
	case err != nil && v.Outcome == gate.Pass:
		v.Outcome, v.Reason = gate.Invalid, err.Error()
	}
}

// temporary reports whether another try may succeed.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// rollout is a Rollout on its way.
type rollout struct {
	Rollout
	state State
	res   Result
	last  Observation
}

func (r *rollout) steps(ctx context.Context) error {
	r.state.Waiting = true
	for {
		if err := r.move(); err != nil {
			return err
		}
		obs, stop, err := r.observe(ctx)
		if err != nil || stop {
			return err
		}
		switch r.look(obs) {
		case Promote:
			if err := r.Target.Shift(Full); err != nil {
				return fmt.Errorf("promoting the canary: %w", err)
			}
			r.res.Promote, r.res.Timeline = true, Timeline{Verdict: r.Now()}
			return nil
		case RollBack:
			r.blame()
			return nil
		case Advance:
			r.state.Waiting = true
		}
	}
}

// move gives the canary the weight of its step as soon as the target is ready
// for it.
func (r *rollout) move() error {
	if !r.state.Waiting {
		return nil
	}
	weight := r.Plan.Steps[r.state.Step].Weight
	if p, ok := r.Target.(Preparer); ok {
		ready, err := p.Prepare(weight)
		if err != nil {
			return fmt.Errorf("getting ready for more traffic to the canary: %w", err)
		}
		if !ready {
			return nil
		}
	}
	if len(r.res.Looks) > 0 { // what was seen so far was seen at another weight
		r.Judge.NextStep()
	}
	if err := r.Target.Shift(weight); err != nil {
		return fmt.Errorf("shifting traffic to the canary: %w", err)
	}
	r.state.Waiting = false
	return nil
}

// weight is the one in force: that of the step, or of the one before as long as
// the target is not ready.
func (r *rollout) weight() int {
	step := r.state.Step
	if r.state.Waiting {
		step--
	}
	if step < 0 {
		return 0
	}
	return r.Plan.Steps[step].Weight
}

// observe waits for one block; stop is set when the rollout ends instead. The
// error is a temporary one of the source.
func (r *rollout) observe(ctx context.Context) (obs Observation, stop bool, err error) {
	blockCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := r.Target.Gone()
	go func() {
		select {
		case <-gone:
			cancel()
		case <-blockCtx.Done():
		}
	}()
	obs, err = r.Source.Observe(blockCtx)
	now := r.Now()
	select {
	case <-gone:
		r.end(gate.Fail, Crash, "the canary's process ended", Timeline{Breach: now, Evidence: now, Verdict: now})
		return obs, true, nil
	default:
	}
	switch {
	case ctx.Err() != nil:
		r.end(gate.Inconclusive, Operator, "interrupted by the operator", Timeline{Verdict: now})
		return obs, true, nil
	case temporary(err):
		return obs, true, fmt.Errorf("measuring: %w", err)
	case err != nil:
		r.end(gate.Invalid, None, fmt.Sprintf("measuring: %v", err), Timeline{Evidence: now, Verdict: now})
		return obs, true, nil
	}
	return obs, false, nil
}

// look hands a block to the judge and decides. Of a block of the warm-up the
// judge sees only what the stable version did, unless it cannot be trusted.
func (r *rollout) look(obs Observation) Action {
	look := Look{
		Block: obs.Block, Weight: r.weight(), Step: r.state.Step, Waiting: r.state.Waiting,
		Warmup: r.state.For < r.Plan.Warmup && obs.Fault == "", Held: obs.Held,
	}
	passed := obs.End.Sub(obs.Start)
	v := r.Judge.Observe(look.Judged())
	if look.Warmup {
		v = gate.Verdict{Outcome: gate.Inconclusive, Reason: "warming up", Odds: 1}
	} else {
		r.res.Verdict = v
	}
	look.Outcome, look.Odds, look.PassOdds = v.Outcome, v.Odds, leastPassOdds(v)
	r.res.Looks = append(r.res.Looks, look)
	r.last = obs
	if r.Report != nil {
		r.Report(look)
	}
	if look.Warmup {
		r.state.For += passed
		return Hold
	}
	r.state.Held = obs.Held != ""
	var action Action
	action, r.state = Decide(r.Plan, r.state, passed, v.Outcome)
	return action
}
