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
// "sha256:" and 64 digits: gate, steps, warm-up, deadline and block; in a cluster
// also how long its pods and daemons may take and how traffic gets to it. The
// same release under the same digest is not judged twice.
func Digest(c config.Deploy) string {
	raw, err := json.Marshal(struct {
		Gate  gate.Config
		Plan  canary.Plan
		Block time.Duration
		cluster
	}{Gate(c.Gate), Plan(c.Canary), c.Canary.Block.Std(), inCluster(c)})
	if err != nil {
		panic(err) // numbers and durations only, and the parser admits no NaN
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// cluster is what a verdict depends on in a cluster only. What is not set leaves
// the digest as it is elsewhere.
type cluster struct {
	Ready   time.Duration `json:",omitempty"`
	Grace   time.Duration `json:",omitempty"`
	Traffic string        `json:",omitempty"`
	Header  string        `json:",omitempty"`
}

func inCluster(c config.Deploy) cluster {
	if c.Target != "kubernetes" {
		return cluster{}
	}
	k := c.Kubernetes
	return cluster{Ready: k.Ready.Std(), Grace: k.Probe.Grace.Std(), Traffic: k.Traffic, Header: k.Header}
}
