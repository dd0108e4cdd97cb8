package canary

import (
	"context"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// Observation is one block of measurements as a source saw it.
type Observation struct {
	gate.Block
	Held         string    // why the block counts for nothing, neither for nor against the canary: it has no numbers
	Mismatch     bool      // Fault says that what is loaded is not what was signed
	FirstRequest time.Time // first request the canary ever answered; zero if none
	FirstError   time.Time // first request it failed; zero if none
}

// Source measures both versions.
type Source interface {
	// Observe waits for the end of the current block and returns what happened
	// in it. An error means that the measurement cannot be had at all: the verdict
	// is invalid, unless a method Temporary says that another try may succeed. Then
	// there is none.
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
	Isolate() error         // no new connection is to reach the canary any more
	Gone() <-chan struct{}  // closed when the canary's process has ended
}

// Preparer is a Target that needs time before it can give the canary more, such
// as pods that have to come up.
type Preparer interface {
	// Prepare asks for what a weight takes and reports whether it is there. It does
	// not wait for it: the canary is watched meanwhile, at the weight that it has.
	// An error means that it will not be there.
	Prepare(weight int) (ready bool, err error)
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
	Traffic  time.Time `json:"traffic,omitzero"`  // the target has done what keeps new connections off the canary; a gateway may take a second to obey
}

// Look is one block with the weight that was in force and what the gate said
// at its end. A recorded list of looks is enough to judge a rollout again.
type Look struct {
	gate.Block
	Weight  int          `json:"weight"`
	Step    int          `json:"step"`
	Waiting bool         `json:"waiting,omitempty"` // for the target to be ready for the step: the weight is that of the one before
	Warmup  bool         `json:"warmup,omitempty"`  // recorded, not judged
	Held    string       `json:"held,omitempty"`    // why it counts for nothing: it has no numbers
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
