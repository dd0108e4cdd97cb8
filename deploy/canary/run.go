package canary

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// Observation is one block of measurements as a source saw it.
type Observation struct {
	gate.Block
	Mismatch     bool      // Fault says that what is loaded is not what was signed
	FirstRequest time.Time // first request the canary ever answered; zero if none
	FirstError   time.Time // first request it failed; zero if none
}

// Source measures both versions.
type Source interface {
	// Observe waits for the end of the current block and returns what happened
	// in it. An error means that the measurement cannot be had at all.
	Observe(ctx context.Context) (Observation, error)
}

// Judge turns blocks into verdicts; a gate.Gate is one.
type Judge interface {
	Observe(gate.Block) gate.Verdict
	// NextStep asks for the evidence of a pass anew: a canary that passed at a
	// small weight has yet to pass at a larger one. Evidence of harm is kept.
	NextStep()
}

// Target moves traffic.
type Target interface {
	Shift(weight int) error // gives the canary this share of the new connections
	Isolate() error         // no new connection reaches the canary any more
	Gone() <-chan struct{}  // closed when the canary's process has ended
}

// Trigger says what set off a rollback.
type Trigger string

// The triggers of a rollback. A rollout that ended for lack of evidence has
// none.
const (
	None         Trigger = ""
	SLO          Trigger = "slo"
	HashMismatch Trigger = "hash-mismatch"
	Signature    Trigger = "signature"
	Crash        Trigger = "crash"
	Operator     Trigger = "operator"
)

// Timeline holds the moments that matter after a regression; a zero time means
// that it did not happen.
type Timeline struct {
	Breach   time.Time `json:"breach,omitzero"`   // first bad request the canary served
	Evidence time.Time `json:"evidence,omitzero"` // first look at which the evidence spoke against it, and kept doing so
	Verdict  time.Time `json:"verdict,omitzero"`  // decision taken
	Traffic  time.Time `json:"traffic,omitzero"`  // no new connection reaches the canary
}

// Look is one block with the weight that was in force and what the gate said
// at its end. A recorded list of looks is enough to judge a rollout again.
type Look struct {
	gate.Block
	Weight  int          `json:"weight"`
	Step    int          `json:"step"`
	Warmup  bool         `json:"warmup,omitempty"` // recorded, not judged
	Outcome gate.Outcome `json:"outcome"`
	Odds    float64      `json:"odds"` // evidence against the canary, odds : 1
	// PassOdds is the evidence for it, of the check that has the least.
	PassOdds float64 `json:"pass_odds,omitempty"`
}

// Judged is what the judge is shown of a block. While the canary warms up that is
// the stable version alone: how it behaves can be learnt already.
func (l Look) Judged() gate.Block {
	b := l.Block
	if l.Warmup {
		b.Canary = gate.Arm{}
	}
	return b
}

// Result is how a rollout ended. When Promote is set all new connections go to
// the canary, otherwise none does.
type Result struct {
	Promote  bool
	Verdict  gate.Verdict
	Trigger  Trigger
	Reason   string
	Timeline Timeline
	Looks    []Look
}

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
// an error, which says that a target did not obey.
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
	if isolateErr := r.Target.Isolate(); isolateErr != nil {
		return run.res, errors.Join(err, fmt.Errorf("taking traffic off the canary: %w", isolateErr))
	}
	run.res.Timeline.Traffic = r.Now()
	return run.res, err
}

// rollout is a Rollout on its way.
type rollout struct {
	Rollout
	state State
	res   Result
	last  Observation
}

func (r *rollout) steps(ctx context.Context) error {
	if err := r.Target.Shift(r.Plan.Steps[0].Weight); err != nil {
		return fmt.Errorf("shifting traffic to the canary: %w", err)
	}
	for {
		obs, stop := r.observe(ctx)
		if stop {
			return nil
		}
		action := r.look(obs)
		switch action {
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
			r.Judge.NextStep()
			if err := r.Target.Shift(r.Plan.Steps[r.state.Step].Weight); err != nil {
				return fmt.Errorf("shifting more traffic to the canary: %w", err)
			}
		}
	}
}

// observe waits for one block; stop is set when the rollout ends instead.
func (r *rollout) observe(ctx context.Context) (obs Observation, stop bool) {
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
	obs, err := r.Source.Observe(blockCtx)
	now := r.Now()
	select {
	case <-gone:
		r.end(gate.Fail, Crash, "the canary's process ended", Timeline{Breach: now, Evidence: now, Verdict: now})
		return obs, true
	default:
	}
	switch {
	case ctx.Err() != nil:
		r.end(gate.Inconclusive, Operator, "interrupted by the operator", Timeline{Verdict: now})
		return obs, true
	case err != nil:
		r.end(gate.Invalid, None, fmt.Sprintf("measuring: %v", err), Timeline{Evidence: now, Verdict: now})
		return obs, true
	}
	return obs, false
}

// look hands a block to the judge and decides. Of a block of the warm-up the
// judge sees only what the stable version did, unless it cannot be trusted.
func (r *rollout) look(obs Observation) Action {
	look := Look{
		Block: obs.Block, Weight: r.Plan.Steps[r.state.Step].Weight, Step: r.state.Step,
		Warmup: r.state.For < r.Plan.Warmup && obs.Fault == "",
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
	var action Action
	action, r.state = Decide(r.Plan, r.state, passed, v.Outcome)
	return action
}

// blame fills in why the judge's last word ended the rollout, and since when it
// could have been known.
func (r *rollout) blame() {
	v, now := r.res.Verdict, r.Now()
	tl := Timeline{Verdict: now, Evidence: r.firstEvidence()}
	switch v.Outcome {
	case gate.Fail:
		tl.Breach = r.last.FirstRequest
		if failed(v, "errors") && !r.last.FirstError.IsZero() {
			tl.Breach = r.last.FirstError
		}
		r.end(gate.Fail, SLO, v.Reason, tl)
	case gate.Invalid:
		tl.Evidence = now
		trigger := None
		if r.last.Mismatch {
			trigger = HashMismatch
		}
		r.end(gate.Invalid, trigger, v.Reason, tl)
	default:
		reason := fmt.Sprintf("no pass within %v: %s", r.Plan.Deadline, v.Reason)
		if v.Outcome == gate.NoData && v.BaselineRequests > 0 && v.CanaryRequests == 0 {
			reason += fmt.Sprintf("; the stable version had %d requests: only new connections are divided, and clients that keep theirs stay where they are", v.BaselineRequests)
		}
		r.end(v.Outcome, None, reason, Timeline{Verdict: now})
	}
}

func leastPassOdds(v gate.Verdict) float64 {
	least := 0.0
	for i, c := range v.Checks {
		if i == 0 || c.PassOdds < least {
			least = c.PassOdds
		}
	}
	return least
}

func (r *rollout) end(o gate.Outcome, t Trigger, reason string, tl Timeline) {
	r.res.Verdict.Outcome, r.res.Verdict.Reason = o, reason
	r.res.Trigger, r.res.Reason, r.res.Timeline = t, reason, tl
}

// failed reports whether only the named check is what failed.
func failed(v gate.Verdict, name string) bool {
	found := false
	for _, c := range v.Checks {
		if c.Outcome == gate.Fail {
			if c.Name != name {
				return false
			}
			found = true
		}
	}
	return found
}

// firstEvidence is the end of the first look from which on the odds stayed
// against the canary.
func (r *rollout) firstEvidence() time.Time {
	var since time.Time
	for _, l := range r.res.Looks {
		switch {
		case l.Warmup || l.Odds <= 1:
			since = time.Time{}
		case since.IsZero():
			since = l.End
		}
	}
	return since
}
