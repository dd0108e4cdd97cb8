// Package gate decides whether a candidate release behaves like the baseline.
//
// It compares, block by block, how many requests of either side were slower
// than a threshold or failed, and it may be looked at after every block: the
// chance that a healthy canary is ever failed, over the whole rollout, through
// load drift and weight changes, is at most Config.Alpha. The test is exact
// (conditional hypergeometric), not asymptotic, so thin traffic does no harm.
//
// A gate does no I/O and reads no clock, so the same blocks always give the
// same verdict. Missing evidence never passes. An untrusted measurement is
// Invalid, never Fail and never Pass.
//
// To the caller are left: measuring, leaving out the blocks in which the canary
// warms up, how long a step lasts at least, deadlines, caps on the absolute
// number of bad requests, and what is done about a verdict. An A/A sentinel is
// a second Gate over a baseline split in two.
//
// What it cannot see: requests that depend on one another across blocks (a
// pause of ten seconds that hits one side) are only partly made good for by the
// divisor of dispersion.go; the tolerance is what protects against them.
//
// The method follows Lindon, Sanden & Shirikian, Rapid Regression Detection in
// Software Deployments through Sequential Testing (KDD 2022), and Turner, Ly &
// Grünwald, Generic E-variables for exact sequential k-sample tests (2024).
package gate

import (
	"fmt"
	"math"
	"slices"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// Gate accumulates evidence about one canary. It is made by New and is not safe
// for concurrent use.
type Gate struct {
	cfg    Config
	checks []weighted
	all    totals
	silent int     // blocks in a row in which only the baseline served
	peak   float64 // highest ln E_t so far
	final  *Verdict
}

// weighted is a check and its share in the bet against the canary.
type weighted struct {
	name     string
	weight   float64
	required bool // a pass needs its evidence
	judge
}

// New returns a gate, or a *ConfigError.
func New(cfg Config) (*Gate, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	g := &Gate{cfg: cfg, checks: []weighted{
		{"latency", 3, true, newLatency(cfg)},
		{"errors", 1, true, newFailures(cfg)},
	}}
	if slo := cfg.SLO; slo.Latency > 0 {
		edge := histogram.Index(slo.Latency)
		g.checks = append(g.checks, weighted{"slo-latency", 1, false, newObjective(cfg, slo.LatencyRatio, edge)})
	}
	if slo := cfg.SLO; slo.ErrorRatio > 0 {
		g.checks = append(g.checks, weighted{"slo-errors", 1, false, newObjective(cfg, slo.ErrorRatio, -1)})
	}
	return g, nil
}

// Observe takes the next block and returns the verdict on all blocks so far.
//
// Fail and Invalid are final: later blocks change nothing, not even the
// evidence. One block with a Fault, or with more than 10⁹ requests on a side, is
// enough for Invalid. All other verdicts
// can still change with the next block, Pass too.
func (g *Gate) Observe(b Block) Verdict {
	if g.final != nil {
		return g.final.clone()
	}
	fault := b.fault()
	if fault == "" {
		g.weigh(&b)
	} else {
		g.all.blocks++
	}
	v := g.verdict(fault)
	if v.Outcome == Fail || v.Outcome == Invalid {
		final := v.clone()
		g.final = &final
	}
	return v
}

// weigh lets every check see the block before it becomes part of the past.
func (g *Gate) weigh(b *Block) {
	for _, c := range g.checks {
		c.observe(b, &g.all)
	}
	g.all.add(b)
	switch {
	case b.Canary.ended() > 0:
		g.silent = 0
	case b.Baseline.ended() > 0:
		g.silent++
	}
	g.peak = max(g.peak, g.odds())
}

// odds is ln E_t: the weighted mean of the evidence of all checks.
func (g *Gate) odds() float64 {
	logs, weights := make([]float64, len(g.checks)), make([]float64, len(g.checks))
	for i, c := range g.checks {
		logs[i], _ = c.odds()
		weights[i] = c.weight
	}
	return logMean(logs, weights)
}

// Replay returns the verdict on recorded blocks: the same, byte for byte, as
// the gate gave that saw them. Without blocks it is NoData. The error is that
// of New.
func Replay(cfg Config, blocks []Block) (Verdict, error) {
	g, err := New(cfg)
	if err != nil {
		return Verdict{}, fmt.Errorf("replaying %d blocks: %w", len(blocks), err)
	}
	v := g.verdict("")
	for _, b := range blocks {
		v = g.Observe(b)
	}
	return v, nil
}

// clone returns a verdict that shares nothing with v.
func (v Verdict) clone() Verdict {
	v.Checks = slices.Clone(v.Checks)
	return v
}

// reached reports whether evidence of log odds is enough at error rate p.
func reached(logOdds, p float64) bool { return logOdds >= -math.Log(p) }
