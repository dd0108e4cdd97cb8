package gate

import "math"

// process is an e-process: the capital of somebody who bets against a
// hypothesis and, while the hypothesis holds, cannot expect to win. By Ville's
// inequality it then ever reaches 1/α with probability at most α (Ville 1939).
//
// Most of the capital is bet from the first block on. The rest is held back and
// enters the game bit by bit, because whoever has bet through an hour in which
// the canary was well has nothing left when it goes bad. It is a weighted mean
// of processes that start at every block, so the bound holds:
//
//	E_t = Σ_s w_s · exp(Σ_{s≤u≤t} ℓ_u) + Σ_{s>t} w_s,   Σ w = 1
type process struct {
	log     float64 // ln of the capital in the game
	reserve float64 // what has not been bet yet
}

const (
	prompt  = 0.8       // the share that is bet from the first block on
	lateBet = 1.0 / 300 // the share of the reserve that joins in each block
)

func newProcess() process {
	return process{log: math.Log(prompt), reserve: 1 - prompt}
}

// add bets on one block, whose e-value is exp(l).
func (p *process) add(l float64) {
	late := p.reserve * lateBet
	p.reserve -= late
	p.log = logAdd(p.log, math.Log(late)) + l
}

// value is ln E_t.
func (p *process) value() float64 { return logAdd(p.log, math.Log(p.reserve)) }

// capped is an e-process that never holds more than limit, so that a canary
// which has been well for an hour is not excused for the hour after. What it
// throws away only makes it smaller: the bound holds.
type capped struct{ log, limit float64 }

func (c *capped) add(l float64) { c.log = min(c.log+l, c.limit) }

// logAdd is ln(eᵃ + eᵇ).
func logAdd(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log1p(math.Exp(b-a))
}

// logMean is the ln of the weighted mean of what has the given logs. Weights
// need not add up to 1. Of nothing it is 0, the log of a process that never bet.
func logMean(logs, weights []float64) float64 {
	sum, total := math.Inf(-1), 0.0
	for i, l := range logs {
		sum = logAdd(sum, math.Log(weights[i])+l)
		total += weights[i]
	}
	if total == 0 {
		return 0
	}
	return sum - math.Log(total)
}
