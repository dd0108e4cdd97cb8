package gate

import "math"

// betOdds are the odds ratios ω that the fail process bets on.
var betOdds = [...]float64{1.3, 2, 4}

// comparison weighs how often the canary was bad against how often the
// baseline was, for one definition of bad.
type comparison struct {
	fail  [len(betOdds)]process
	pass  capped
	noise dispersion
	rule  passRule
	onset onset
}

// passRule is what a pass rules out: that the canary's odds of a bad request
// are odds times the baseline's, and that more than the share floor is bad.
//
// Usually the first part alone is tested. Where the baseline has hardly any
// bad request (its past share is below rare) twice as many cannot be ruled out
// in a lifetime; there the second part is tested, against the share usual. The
// choice rests on earlier blocks only, so both together are one e-process.
type passRule struct{ odds, floor, usual, rare float64 }

func newComparison(cfg Config, rule passRule) comparison {
	c := comparison{rule: rule, pass: capped{limit: -passMemory * math.Log(cfg.Beta)}}
	for i := range c.fail {
		c.fail[i] = newProcess()
	}
	return c
}

// passMemory is how much more than the 1/β that it takes to pass a pass
// process can hold, as a power of 1/β.
const passMemory = 3

// observe takes one block: worse counts its bad requests with the tolerance of
// a failure, same with that of a pass, and past is the baseline's share of bad
// requests in the blocks before.
func (c *comparison) observe(b *Block, worse, same table, past float64) {
	d := c.noise.factor()
	if !worse.silent() {
		for i := range c.fail {
			c.fail[i].add(worse.logRatio(betOdds[i]) / d)
		}
	}
	if past < c.rule.rare {
		c.pass.add(logBinomialRatio(same.kc, same.nc, c.rule.usual, c.rule.floor) / d)
	} else {
		c.pass.add(-same.logRatio(c.rule.odds) / d)
	}
	if same.nc > 0 && same.nb > 0 {
		c.noise.add(same)
	}
	c.onset.add(worse.logRatio(betOdds[0]), b)
}

// failLog is the ln of the mean over the odds ratios.
func (c *comparison) failLog() float64 {
	sum := math.Inf(-1)
	for i := range c.fail {
		sum = logAdd(sum, c.fail[i].value())
	}
	return sum - math.Log(float64(len(c.fail)))
}

// logBinomialRatio is the log likelihood ratio of k bad requests among n at the
// share p against the share null. Its exponential has expectation 1 at null and
// at most 1 on the far side of null, seen from p.
func logBinomialRatio(k, n uint64, p, null float64) float64 {
	bad, good := float64(k), float64(n-k)
	return bad*math.Log(p/null) + good*math.Log((1-p)/(1-null))
}
