package gate

import "math"

// judge weighs one kind of evidence.
type judge interface {
	// observe takes a block, and everything before it.
	observe(b *Block, past *totals)
	// odds are the logs of the evidence that the canary is worse, and that it
	// is not.
	odds() (fail, pass float64)
	// nextStep begins the evidence of a pass anew.
	nextStep()
	// text is the size of the effect, for a person; all is everything so far.
	text(all *totals) string
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
		l.thresholds[i].observe(b,
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

// text words the threshold with the most evidence against the canary, or else
// the one that holds up the pass.
func (l *latency) text(all *totals) string {
	worst, weakest := l.extremes()
	c := &l.thresholds[worst]
	if c.failLog() <= 0 {
		return quantileText(l.quantiles[weakest], &all.baseline.Latency, &all.canary.Latency)
	}
	return c.onset.show(c.failLog(), all, func(t *totals) string {
		b, c, i := &t.baseline.Latency, &t.canary.Latency, worst
		for i > 0 && !(bounded(b, l.quantiles[i]) && bounded(c, l.quantiles[i])) {
			i-- // what few requests can show is a lower quantile
		}
		return quantileText(l.quantiles[i], b, c)
	})
}

// extremes are the thresholds with the most evidence against the canary, and
// with the least for it.
func (l *latency) extremes() (worst, weakest int) {
	for i := range l.thresholds {
		if l.thresholds[i].failLog() > l.thresholds[worst].failLog() {
			worst = i
		}
		if l.thresholds[i].pass.log <= l.thresholds[weakest].pass.log {
			weakest = i
		}
	}
	return worst, weakest
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
	f.share.observe(b, t, t, float64(past.baseline.Errors)/float64(served))
}

func (f *failures) odds() (fail, pass float64) { return f.share.failLog(), f.share.pass.log }

func (f *failures) text(all *totals) string {
	return f.share.onset.show(f.share.failLog(), all, func(t *totals) string {
		b, c := &t.baseline, &t.canary
		return shareText(b.Errors, b.ended(), c.Errors, c.ended())
	})
}
