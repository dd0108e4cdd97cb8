package gate

import (
	"math"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// judge weighs one kind of evidence.
type judge interface {
	// observe takes a block, and everything before it.
	observe(b *Block, past *totals)
	// odds are the logs of the evidence that the canary is worse, and that it
	// is not.
	odds() (fail, pass float64)
	// text is the size of the effect in what was served lately, for a person.
	text(lately *totals) string
}

// latency compares durations at quantiles of the baseline.
type latency struct {
	quantiles        []float64
	thresholds       []comparison
	shift, passShift int // tolerances, in buckets
}

func newLatency(cfg Config) *latency {
	l := &latency{quantiles: cfg.Quantiles, shift: buckets(cfg.Tolerance), passShift: buckets(cfg.PassTolerance)}
	for _, q := range cfg.Quantiles {
		above := 1 - q
		l.thresholds = append(l.thresholds, newComparison(cfg, passRule{
			odds:  cfg.OddsRatio,
			floor: cfg.OddsRatio * above / (q + cfg.OddsRatio*above),
			usual: above,
			rare:  above / 4,
		}))
	}
	return l
}

// buckets is the smallest shift of a bucket edge that makes it longer by the
// given share: 7 for 15 %.
func buckets(tolerance float64) int {
	if tolerance <= 0 {
		return 0
	}
	const perOctave = 32
	return int(math.Ceil(perOctave*math.Log2(1+tolerance) - 1e-9))
}

// historyAbove is how many requests above its threshold the baseline must have
// served before the threshold counts: 1000 requests for p99, 20 for the median.
const historyAbove = 5

func (l *latency) observe(b *Block, past *totals) {
	history := &past.baseline.Latency
	served := float64(history.Count())
	canary, baseline := &b.Canary.Latency, &b.Baseline.Latency
	nc, nb := canary.Count(), baseline.Count()
	for i, q := range l.quantiles {
		if (1-q)*served < historyAbove {
			return
		}
		edge := history.QuantileIndex(q)
		above := baseline.AtOrAbove(edge)
		l.thresholds[i].observe(
			table{nc, nb, canary.AtOrAbove(edge + l.shift), above},
			table{nc, nb, canary.AtOrAbove(edge + l.passShift), above},
			float64(history.AtOrAbove(edge))/served)
	}
}

// odds are the mean over the thresholds against the canary, and the weakest
// threshold for it.
func (l *latency) odds() (fail, pass float64) {
	fail, pass = math.Inf(-1), math.Inf(1)
	for i := range l.thresholds {
		fail = logAdd(fail, l.thresholds[i].failLog())
		pass = min(pass, l.thresholds[i].pass.log)
	}
	return fail - math.Log(float64(len(l.thresholds))), pass
}

func (l *latency) text(lately *totals) string {
	return quantileText(l.telling(), &lately.baseline.Latency, &lately.canary.Latency)
}

// telling is the quantile that a person should look at: the one with the most
// evidence against the canary, or else the one that holds up the pass.
func (l *latency) telling() float64 {
	worst, weakest := 0, 0
	for i := range l.thresholds {
		if l.thresholds[i].failLog() > l.thresholds[worst].failLog() {
			worst = i
		}
		if l.thresholds[i].pass.log <= l.thresholds[weakest].pass.log {
			weakest = i
		}
	}
	if l.thresholds[worst].failLog() > 0 {
		return l.quantiles[worst]
	}
	return l.quantiles[weakest]
}

// failures compares the shares of failed requests, without any tolerance.
type failures struct{ share comparison }

func newFailures(cfg Config) *failures {
	return &failures{newComparison(cfg, passRule{
		odds:  cfg.OddsRatio,
		floor: cfg.ErrorFloor,
		usual: cfg.ErrorFloor / 4,
		rare:  cfg.ErrorFloor / 2,
	})}
}

func (f *failures) observe(b *Block, past *totals) {
	served := past.baseline.ended()
	if served < historyAbove {
		return
	}
	t := table{nc: b.Canary.ended(), nb: b.Baseline.ended(), kc: b.Canary.Errors, kb: b.Baseline.Errors}
	f.share.observe(t, t, float64(past.baseline.Errors)/float64(served))
}

func (f *failures) odds() (fail, pass float64) { return f.share.failLog(), f.share.pass.log }

func (f *failures) text(lately *totals) string {
	b, c := &lately.baseline, &lately.canary
	return shareText(b.Errors, b.ended(), c.Errors, c.ended())
}

// objective weighs the canary alone against an absolute share of bad requests.
type objective struct {
	allowed float64
	edge    int // bad is longer than this bucket; below zero: bad is failed
	fail    [len(burnRates)]process
	against [len(burnRates)]float64
	pass    capped
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
	o.pass.add(logBinomialRatio(bad, n, o.allowed, o.against[0]))
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

func (o *objective) text(lately *totals) string {
	bad, n := o.count(&lately.canary)
	what := "failed"
	if o.edge >= 0 {
		what = "slower than " + durationText(histogram.Edge(o.edge))
	}
	return objectiveText(what, bad, n, o.allowed)
}
