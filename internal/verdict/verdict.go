// Package verdict says how a rollout is judged and what is kept of the judgement.
//
// It stands between sluice.yaml and the centre, for every target alike: what the
// file says becomes the plan of a rollout and the configuration of its gate, and
// what a rollout came to becomes the ledger's entry and a [Recording], from which
// anybody can come to the verdict again. It does no I/O.
package verdict

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gate"
)

// Plan is the rollout policy of a configuration.
func Plan(c config.Canary) canary.Plan {
	p := canary.Plan{Warmup: c.Warmup.Std(), Deadline: c.Deadline.Std()}
	for _, s := range c.Steps {
		p.Steps = append(p.Steps, canary.Step{Weight: int(s.Weight.Float()*canary.Full + 0.5), Min: s.Min.Std()})
	}
	return p
}

// Gate is the statistical configuration of a configuration.
func Gate(c config.Gate) gate.Config {
	g := gate.Config{Alpha: c.Alpha.Float(), Beta: c.Beta.Float(), Tolerance: c.Tolerance.Float(), PassTolerance: c.PassTolerance.Float(), OddsRatio: c.OddsRatio}
	g.SLO.Latency, g.SLO.LatencyRatio = c.SLO.Latency.Threshold.Std(), c.SLO.Latency.Ratio.Float()
	g.SLO.ErrorRatio = c.SLO.Errors.Float()
	return g
}

// Digest names everything in a configuration that a verdict depends on, as
// "sha256:" and 64 digits: gate, steps, warm-up, deadline and block. The same
// release under the same digest is not judged twice.
func Digest(c config.Deploy) string {
	raw, err := json.Marshal(struct {
		Gate  gate.Config
		Plan  canary.Plan
		Block time.Duration
	}{Gate(c.Gate), Plan(c.Canary), c.Canary.Block.Std()})
	if err != nil {
		panic(err) // numbers and durations only, and the parser admits no NaN
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
