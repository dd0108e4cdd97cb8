package agent

import "math"

// Segments counts what TCP sent in an interval, and how much of it again.
type Segments struct{ Sent, Again uint64 }

// What a surge test may get wrong, and where it begins to look.
const (
	surgeAlpha = 0.005 // false alarms once the null rate holds, however long one watches
	surgeDelta = 0.005 // chance that the baseline's rate is above its upper bound
	surgeRatio = 3     // a surge is more than this many times the baseline

	// surgeFloor is the lowest rate that can be too high. Below 0.3 % the rate of
	// a quiet network says more of its luck than of the probe: after a baseline
	// without a single retransmit, three of them would be a surge.
	surgeFloor = 0.003
)

// surgeRates are the alternatives, as multiples of the null rate (the burn
// rates of the gate's absolute objectives).
var surgeRates = [...]float64{2, 6, 14.4}

// Surge tests whether more segments are sent again since a swap than the
// baseline before it explains. It is an e-process: for the null hypothesis that
// the rate is at most p0 it multiplies the likelihood ratios
//
//	(θ/p0)^k · ((1−θ)/(1−p0))^(n−k)
//
// of every interval, and averages over three alternatives θ. By Ville's
// inequality it ever reaches 1/α with a probability of at most α, so it may be
// looked at every second. p0 is three times an upper confidence bound of the
// baseline's rate, which fails with probability δ: false alarms in all ≤ α + δ.
//
// Retransmits come in bursts, and a burst is one event. If the intervals of the
// baseline scatter d times as much as independent segments would, counts are
// divided by d: the e-value is then raised to the power 1/d, which keeps it one
// (Jensen's inequality).
type Surge struct {
	p0         float64
	dispersion float64
	logs       [len(surgeRates)]float64
	seen       Segments
}

// NewSurge starts a test with the intervals of the baseline. Without any the
// null rate is so high that nothing is a surge.
func NewSurge(baseline []Segments) *Surge {
	var all Segments
	for _, s := range baseline {
		all.Sent += s.Sent
		all.Again += min(s.Again, s.Sent)
	}
	d := dispersion(baseline, all)
	p0 := surgeRatio * upperBound(float64(all.Again)/d, float64(all.Sent)/d, surgeDelta)
	return &Surge{p0: min(max(p0, surgeFloor), 0.9), dispersion: d}
}

// Add takes an interval after the swap.
func (s *Surge) Add(now Segments) {
	now.Again = min(now.Again, now.Sent) // a segment may be sent again in a later interval
	s.seen.Sent += now.Sent
	s.seen.Again += now.Again
	k, n := float64(now.Again)/s.dispersion, float64(now.Sent)/s.dispersion
	for i, ratio := range surgeRates {
		theta := min(ratio*s.p0, (1+s.p0)/2)
		s.logs[i] += k*math.Log(theta/s.p0) + (n-k)*(math.Log1p(-theta)-math.Log1p(-s.p0))
	}
}

// Evidence is the e-value: the odds at which a bet against the null would have
// paid so far.
func (s *Surge) Evidence() float64 {
	sum := 0.0
	for _, l := range s.logs {
		sum += math.Exp(min(l, 600)) / float64(len(surgeRates))
	}
	return sum
}

// Alarm reports whether there is a surge.
func (s *Surge) Alarm() bool { return s.Evidence() >= 1/surgeAlpha }

// Rate is the share of segments that were sent again since the swap, and Limit
// the share that the baseline explains.
func (s *Surge) Rate() float64 {
	if s.seen.Sent == 0 {
		return 0
	}
	return float64(s.seen.Again) / float64(s.seen.Sent)
}

// Limit is the highest rate that is no surge.
func (s *Surge) Limit() float64 { return s.p0 }

// dispersion is Pearson's χ² of the intervals over its degrees of freedom, at
// least 1.
func dispersion(intervals []Segments, all Segments) float64 {
	if all.Sent == 0 || all.Again == 0 || len(intervals) < 2 {
		return 1
	}
	p := float64(all.Again) / float64(all.Sent)
	chi2, used := 0.0, 0
	for _, s := range intervals {
		if s.Sent == 0 {
			continue
		}
		mean := p * float64(s.Sent)
		diff := float64(min(s.Again, s.Sent)) - mean
		chi2 += diff * diff / (mean * (1 - p + 1e-12))
		used++
	}
	if used < 2 {
		return 1
	}
	return max(1, chi2/float64(used-1))
}

// upperBound is the rate that k of n exceed with probability at most delta: the
// largest p with n·KL(k/n ‖ p) ≤ ln(1/δ) (Hoeffding 1963, theorem 1). With k = 0
// it is the bound of Clopper and Pearson, otherwise a little above.
func upperBound(k, n, delta float64) float64 {
	if n <= 0 {
		return 1
	}
	x := min(k/n, 1)
	limit := -math.Log(delta) / n
	low, high := x, 1.0
	for range 60 {
		mid := (low + high) / 2
		if divergence(x, mid) <= limit {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

// divergence is that of Kullback and Leibler between two coins.
func divergence(x, p float64) float64 {
	sum := 0.0
	if x > 0 {
		sum += x * math.Log(x/p)
	}
	if x < 1 {
		sum += (1 - x) * (math.Log1p(-x) - math.Log1p(-p))
	}
	return sum
}
