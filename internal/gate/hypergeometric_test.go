package gate

import (
	"math"
	"testing"
)

// choose is C(n, k) for small n, by Pascal's rule.
func choose(n, k uint64) float64 {
	if k > n {
		return 0
	}
	if k == 0 || k == n {
		return 1
	}
	return choose(n-1, k-1) + choose(n-1, k)
}

// binomial is the chance of k bad requests among n.
func binomial(n, k uint64, p float64) float64 {
	return choose(n, k) * math.Pow(p, float64(k)) * math.Pow(1-p, float64(n-k))
}

// withOdds is the share whose odds are ratio times those of p.
func withOdds(p, ratio float64) float64 { return ratio * p / (1 - p + ratio*p) }

// expectation is that of f(table) when both sides' requests are independent,
// over all outcomes.
func expectation(nc, nb uint64, pc, pb float64, f func(table) float64) float64 {
	sum := 0.0
	for kc := uint64(0); kc <= nc; kc++ {
		for kb := uint64(0); kb <= nb; kb++ {
			sum += binomial(nc, kc, pc) * binomial(nb, kb, pb) * f(table{nc, nb, kc, kb})
		}
	}
	return sum
}

// everyShape calls f with all sizes up to 8 and shares from rare to usual.
func everyShape(f func(nc, nb uint64, p float64)) {
	for nc := uint64(0); nc <= 8; nc++ {
		for nb := uint64(0); nb <= 8; nb++ {
			for _, p := range []float64{0.01, 0.3, 0.5, 0.95} {
				f(nc, nb, p)
			}
		}
	}
}

const exact = 1e-12

func TestFailEvidenceCannotBeExpectedToGrowUnderTheNull(t *testing.T) {
	everyShape(func(nc, nb uint64, p float64) {
		for _, omega := range betOdds {
			e := func(x table) float64 { return math.Exp(x.logRatio(omega)) }
			if got := expectation(nc, nb, p, p, e); math.Abs(got-1) > exact {
				t.Errorf("n %d/%d p %g ω %g: E = %.15f at odds ratio 1, want 1", nc, nb, p, omega, got)
			}
			for _, better := range []float64{0.9, 0.5, 0.1} {
				if got := expectation(nc, nb, withOdds(p, better), p, e); got > 1+exact {
					t.Errorf("n %d/%d p %g ω %g: E = %.15f at odds ratio %g, want ≤ 1", nc, nb, p, omega, got, better)
				}
			}
		}
	})
}

func TestPassEvidenceCannotBeExpectedToGrowFromTheMarginOn(t *testing.T) {
	everyShape(func(nc, nb uint64, p float64) {
		e := func(x table) float64 { return math.Exp(-x.logRatio(2)) }
		if got := expectation(nc, nb, withOdds(p, 2), p, e); math.Abs(got-1) > exact {
			t.Errorf("n %d/%d p %g: E = %.15f at odds ratio 2, want 1", nc, nb, p, got)
		}
		for _, worse := range []float64{2.1, 4, 100} {
			if got := expectation(nc, nb, withOdds(p, worse), p, e); got > 1+exact {
				t.Errorf("n %d/%d p %g: E = %.15f at odds ratio %g, want ≤ 1", nc, nb, p, got, worse)
			}
		}
	})
}

func TestAbsoluteEvidenceCannotBeExpectedToGrowUnderTheNull(t *testing.T) {
	for n := uint64(0); n <= 8; n++ {
		for _, null := range []float64{0.01, 0.3, 0.9} {
			for _, p := range []float64{0.005, 0.02, 0.2, 0.5, 0.95} {
				e := func(x table) float64 { return math.Exp(logBinomialRatio(x.kc, x.nc, p, null)) }
				if got := expectation(n, 0, null, 0.5, e); math.Abs(got-1) > exact {
					t.Errorf("n %d bet %g: E = %.15f at %g, want 1", n, p, got, null)
				}
				beyond := null + (null-p)*min(null, 1-null)/2
				if got := expectation(n, 0, beyond, 0.5, e); got > 1+exact {
					t.Errorf("n %d bet %g: E = %.15f at %g beyond %g, want ≤ 1", n, p, got, beyond, null)
				}
			}
		}
	}
}

func TestExpectedCountsAreThoseOfTheHypergeometric(t *testing.T) {
	everyShape(func(nc, nb uint64, _ float64) {
		for k := uint64(0); k <= nc+nb; k++ {
			var mean, square float64
			for kc := uint64(0); kc <= min(k, nc); kc++ {
				chance := choose(nc, kc) * choose(nb, k-kc) / choose(nc+nb, k)
				mean += chance * float64(kc)
				square += chance * float64(kc) * float64(kc)
			}
			kc := min(k, nc)
			got, variance := table{nc, nb, kc, k - kc}.expected()
			if math.Abs(got-mean) > exact || math.Abs(variance-(square-mean*mean)) > 1e-10 {
				t.Errorf("n %d/%d K %d: mean %g variance %g, want %g and %g", nc, nb, k, got, variance, mean, square-mean*mean)
			}
		}
	})
}

func TestLargeTablesStayFinite(t *testing.T) {
	for name, x := range map[string]table{
		"a million requests a side":   {1e6, 1e6, 5e5, 4e5},
		"one canary request":          {1, 1e6, 1, 10},
		"one baseline request":        {1e6, 1, 10, 1},
		"all of the canary are bad":   {1e5, 1e6, 1e5, 0},
		"none of the canary is bad":   {1e5, 1e6, 0, 1e5},
		"a share of one in a million": {1e6, 1e6, 1, 0},
	} {
		for _, omega := range betOdds {
			if l := x.logRatio(omega); math.IsNaN(l) || math.IsInf(l, 0) {
				t.Errorf("%s: ℓ(%g) = %g", name, omega, l)
			}
		}
	}
}
