package gate

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Verdict is the outcome of a look and the evidence it rests on. Numbers are
// rounded to six digits, and the order of Checks is fixed.
type Verdict struct {
	Outcome Outcome `json:"outcome"`
	// Reason is one line for a person: what decided, or what is missing.
	Reason string  `json:"reason"`
	Checks []Check `json:"checks"`
	// Blocks seen up to the verdict.
	Blocks int `json:"blocks"`
	// Odds is E_t, the evidence against the canary: Odds : 1, at most 1e300.
	Odds float64 `json:"odds"`
	// PValue is the smallest 1/E_t so far, valid at every look; at most 1.
	PValue           float64 `json:"p_value"`
	BaselineRequests uint64  `json:"baseline_requests"`
	CanaryRequests   uint64  `json:"canary_requests"`
}

// Check is one thing that was compared.
type Check struct {
	// Name is "latency", "errors", "slo-latency" or "slo-errors".
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	// FailOdds is the evidence that the canary is worse. The Odds of the verdict
	// are their weighted mean.
	FailOdds float64 `json:"fail_odds"`
	// PassOdds is the evidence that it is not, of the weakest threshold. It is
	// capped at (1/β)³.
	PassOdds float64 `json:"pass_odds"`
	Baseline Summary `json:"baseline"`
	Canary   Summary `json:"canary"`
	// Text is the size of the effect with a 95 % interval: "p50 4.1 ms → 8.3 ms,
	// slower by 92–110 %", and "(last 9 blocks)" where the canary seems to have
	// gone bad late. The interval is that of a single look over a period chosen
	// by hindsight, for orientation; the odds decide, and hold at every look.
	Text string `json:"text"`
}

// Summary is what one side served up to the verdict. Quantiles are upper bucket
// edges, at most 2.2 % too high.
type Summary struct {
	Requests uint64        `json:"requests"`
	Errors   uint64        `json:"errors"`
	P50      time.Duration `json:"p50_ns"`
	P90      time.Duration `json:"p90_ns"`
	P99      time.Duration `json:"p99_ns"`
}

// String is the line that a command prints: name, outcome, effect, odds, and
// the requests of baseline and canary.
func (c Check) String() string {
	odds := "odds " + oddsText(c.FailOdds)
	if c.Outcome != Fail {
		odds = "pass odds " + oddsText(c.PassOdds)
	}
	return fmt.Sprintf("%s  %s  %s  %s  n %s / %s", c.Name, c.Outcome, c.Text, odds,
		grouped(c.Baseline.Requests), grouped(c.Canary.Requests))
}

// silentBlocks in a row without a canary request, while the baseline serves,
// and what was measured before says nothing about now.
const silentBlocks = 30

// outcome is that of a look, of a measurement without fault.
func (g *Gate) outcome() Outcome {
	switch {
	case reached(g.odds(), g.cfg.Alpha):
		return Fail
	case g.all.baseline.ended() == 0 || g.all.canary.ended() == 0 || g.silent >= silentBlocks:
		return NoData
	case g.leaning() < 0 && reached(g.passLog(g.weakest()), g.cfg.Beta):
		return Pass
	}
	return Inconclusive
}

// verdict sums up. A fault overrides all evidence.
func (g *Gate) verdict(fault string) Verdict {
	v := Verdict{
		Outcome:          g.outcome(),
		Blocks:           g.all.blocks,
		Odds:             fromLog(g.odds()),
		PValue:           fromLog(-g.peak),
		BaselineRequests: g.all.baseline.ended(),
		CanaryRequests:   g.all.canary.ended(),
	}
	v.Checks = g.results(v.Outcome == Fail)
	if fault != "" {
		v.Outcome, v.Reason = Invalid, "the measurement cannot be trusted: "+fault
		return v
	}
	v.Reason = g.reason(&v)
	return v
}

// reason says what decided or what is missing.
func (g *Gate) reason(v *Verdict) string {
	leaning, weakest := g.leaning(), v.Checks[g.weakest()]
	switch {
	case v.Outcome == Fail:
		worst := v.Checks[g.worst()]
		return fmt.Sprintf("%s: %s (odds %s)", worst.Name, worst.Text, oddsText(v.Odds))
	case v.BaselineRequests == 0:
		return "the baseline has served no request"
	case v.CanaryRequests == 0:
		return "the canary has served no request"
	case v.Outcome == NoData:
		return fmt.Sprintf("the canary has served no request for %d blocks", g.silent)
	case v.Outcome == Pass:
		return fmt.Sprintf("not worse than allowed; weakest is %s: %s (pass odds %s)", weakest.Name, weakest.Text, oddsText(weakest.PassOdds))
	case leaning >= 0:
		c := v.Checks[leaning]
		return fmt.Sprintf("%s is more likely broken than kept: %s (odds %s)", c.Name, c.Text, oddsText(c.FailOdds))
	}
	return fmt.Sprintf("waiting for evidence on %s: %s (pass odds %s of %s)", weakest.Name, weakest.Text, oddsText(weakest.PassOdds), oddsText(1/g.cfg.Beta))
}

// results describes every check, for a verdict that is a failure or not.
func (g *Gate) results(failed bool) []Check {
	baseline, canary := summarize(&g.all.baseline), summarize(&g.all.canary)
	checks := make([]Check, len(g.checks))
	for i, c := range g.checks {
		fail, pass := c.odds()
		r := Check{Name: c.name, FailOdds: fromLog(fail), PassOdds: fromLog(pass), Baseline: baseline, Canary: canary}
		switch {
		case failed && reached(fail, g.cfg.Alpha):
			r.Outcome = Fail
		case baseline.Requests == 0 || canary.Requests == 0:
			r.Outcome = NoData
		case reached(pass, g.cfg.Beta):
			r.Outcome = Pass
		}
		r.Text = c.text(&g.all)
		checks[i] = r
	}
	return checks
}

// worst is the check that weighs most against the canary.
func (g *Gate) worst() int {
	worst, most := 0, math.Inf(-1)
	for i, c := range g.checks {
		if fail, _ := c.odds(); math.Log(c.weight)+fail > most {
			worst, most = i, math.Log(c.weight)+fail
		}
	}
	return worst
}

// weakest is the required check with the least evidence for a pass.
func (g *Gate) weakest() int {
	weakest := -1
	for i, c := range g.checks {
		if c.required && (weakest < 0 || g.passLog(i) < g.passLog(weakest)) {
			weakest = i
		}
	}
	return weakest
}

func (g *Gate) passLog(i int) float64 {
	_, pass := g.checks[i].odds()
	return pass
}

// leaning is the first objective that is more likely broken than kept, which
// withholds a pass; −1 if there is none.
func (g *Gate) leaning() int {
	for i, c := range g.checks {
		if fail, _ := c.odds(); !c.required && fail > 0 {
			return i
		}
	}
	return -1
}

func summarize(a *Arm) Summary {
	h := &a.Latency
	return Summary{Requests: a.ended(), Errors: a.Errors, P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99)}
}

// maxOdds caps what is reported, since JSON knows no infinity.
const maxOdds = 1e300

// fromLog is e^x to six digits, so that the last bits, which differ between
// processors, do not show.
func fromLog(x float64) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(math.Exp(min(x, math.Log(maxOdds))), 'g', 6, 64), 64)
	if err != nil {
		return maxOdds
	}
	return min(v, maxOdds)
}
