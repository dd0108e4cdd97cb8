package verdict

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// Recording is all that is needed, with the looks beside it, to come to a
// verdict again.
type Recording struct {
	Record   release.Record  `json:"record"`
	Verdict  gate.Verdict    `json:"verdict"`
	Gate     gate.Config     `json:"gate"`
	Plan     canary.Plan     `json:"plan"`
	Timeline canary.Timeline `json:"timeline"`
	Events   []Happening     `json:"events"`
}

// Happening is one line of a rollout's timeline.
type Happening struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Requests adds up what both versions answered in the looks of a rollout.
func Requests(looks []canary.Look) release.Requests {
	var sum release.Requests
	for _, l := range looks {
		sum.Stable += l.Baseline.Requests
		sum.Canary += l.Canary.Requests
	}
	return sum
}

// Result is the ledger's entry of how a rollout ended at the given moment.
func Result(r canary.Result, ended time.Time) release.Result {
	tl := r.Timeline
	out := release.Result{
		Outcome: release.RolledBack, Verdict: r.Verdict.Outcome.String(), Trigger: release.Trigger(r.Trigger), Reason: r.Reason,
		Ended: ended, Requests: Requests(r.Looks),
		Timeline: release.Timeline{Breach: tl.Breach, Evidence: tl.Evidence, Verdict: tl.Verdict, Traffic: tl.Traffic},
	}
	if r.Promote {
		out.Outcome = release.Promoted
	}
	return out
}

// EncodeLooks writes looks as lines of JSON.
func EncodeLooks(looks []canary.Look) ([]byte, error) {
	var lines []byte
	for _, l := range looks {
		line, err := json.Marshal(l)
		if err != nil {
			return nil, fmt.Errorf("encoding samples: %w", err)
		}
		lines = append(append(lines, line...), '\n')
	}
	return lines, nil
}

// DecodeLooks reads what EncodeLooks wrote; an error names the line.
func DecodeLooks(raw []byte) ([]canary.Look, error) {
	var looks []canary.Look
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var l canary.Look
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		looks = append(looks, l)
	}
	return looks, lines.Err()
}

// Again judges recorded looks. With the configuration of the rollout the verdict
// is the one that it had; another one says what it would have been.
func Again(cfg gate.Config, looks []canary.Look) (gate.Verdict, error) {
	g, err := gate.New(cfg)
	if err != nil {
		return gate.Verdict{}, err
	}
	v := gate.Verdict{Outcome: gate.NoData, Reason: "nothing was recorded"}
	step, waited := 0, false
	for _, l := range looks {
		if !l.Waiting && (waited || l.Step != step) {
			g.NextStep()
			step = l.Step
		}
		waited = l.Waiting
		if said := g.Observe(l.Judged()); !l.Warmup {
			v = said
		}
	}
	return v, nil
}
