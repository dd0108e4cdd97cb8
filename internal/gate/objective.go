package gate

import (
	"math"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// objective weighs the canary alone against an absolute share of bad requests.
type objective struct {
	allowed float64
	edge    int // bad is longer than this bucket; below zero: bad is failed
	fail    [len(burnRates)]process
	against [len(burnRates)]float64
	pass    capped
	onset   onset
}

// burnRates are how many times the allowed share the fail process bets on:
// 14.4 and 6 are those of the Google SRE Workbook, chapter 5.
var burnRates = [...]float64{2, 6, 14.4}

func newObjective(cfg Config, allowed float64, edge int) *objective {
	o := &objective{allowed: allowed, edge: edge, pass: capped{limit: -passMemory * math.Log(cfg.Beta)}}
	for i, rate := range burnRates {
		o.fail[i] = newProcess()
		o.against[i] = min(rate*allowed, (1+allowed)/2)
	}
	return o
}

func (o *objective) observe(b *Block, _ *totals) {
	bad, n := o.count(&b.Canary)
	if n == 0 {
		return
	}
	for i := range o.fail {
		o.fail[i].add(logBinomialRatio(bad, n, o.against[i], o.allowed))
	}
	back := logBinomialRatio(bad, n, o.allowed, o.against[0])
	o.pass.add(back)
	o.onset.add(-back, b)
}

func (o *objective) count(a *Arm) (bad, n uint64) {
	if o.edge < 0 {
		return a.Errors, a.ended()
	}
	return a.Latency.AtOrAbove(o.edge), a.Latency.Count()
}

func (o *objective) odds() (fail, pass float64) {
	fail = math.Inf(-1)
	for i := range o.fail {
		fail = logAdd(fail, o.fail[i].value())
	}
	return fail - math.Log(float64(len(o.fail))), o.pass.log
}

func (o *objective) text(all *totals) string {
	what := "failed"
	if o.edge >= 0 {
		what = "slower than " + durationText(histogram.Edge(o.edge))
	}
	fail, _ := o.odds()
	return o.onset.show(fail, all, func(t *totals) string {
		bad, n := o.count(&t.canary)
		return objectiveText(what, bad, n, o.allowed)
	})
}
