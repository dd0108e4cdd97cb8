package canary

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

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
		if r.state.Waiting {
			reason = fmt.Sprintf("no pass within %v: the target was not ready for step %d", r.Plan.Deadline, r.state.Step+1)
		}
		if v.Outcome == gate.NoData && v.BaselineRequests > 0 && v.CanaryRequests == 0 {
			reason += fmt.Sprintf("; the stable version had %d requests: only new connections are divided, and clients that keep theirs stay where they are", v.BaselineRequests)
		}
		if r.last.Held != "" {
			reason += "; the last block counts for nothing: " + r.last.Held
		}
		if v.Outcome == gate.Pass { // too early, after a time of which nothing is known, or at the weight of the step before
			v.Outcome = gate.Inconclusive
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
