package gate

import "math"

// table counts one comparison in one block: of nc canary and nb baseline
// requests, kc and kb were bad (failed, or slower than a threshold).
type table struct{ nc, nb, kc, kb uint64 }

// silent reports whether the table says nothing, whatever the odds ratio: a
// side served nothing, or no request was bad, or all were.
func (t table) silent() bool {
	k := t.kc + t.kb
	return t.nc == 0 || t.nb == 0 || k == 0 || k == t.nc+t.nb
}

// logRatio is ℓ(ω) = kc·ln ω − ln S(ω), the log likelihood ratio of the odds
// ratio ω against 1, given the number of bad requests of both sides together.
// exp ℓ has expectation 1 at odds ratio 1 and at most 1 below; exp −ℓ has
// expectation 1 at odds ratio ω and at most 1 above.
func (t table) logRatio(omega float64) float64 {
	if t.silent() {
		return 0
	}
	return float64(t.kc)*math.Log(omega) - logTilt(t, omega)
}

// expected is the mean and the variance of kc at odds ratio 1, given kc + kb.
func (t table) expected() (mean, variance float64) {
	if t.silent() {
		return float64(t.kc), 0
	}
	nc, nb, k := float64(t.nc), float64(t.nb), float64(t.kc+t.kb)
	n := nc + nb
	mean = k * nc / n
	return mean, mean * (nb / n) * ((n - k) / (n - 1))
}

// logTilt is ln S(ω), S(ω) = Σ_i C(nc,i)·C(nb,K−i)·ω^i / C(nc+nb,K): the
// normalising constant of Fisher's noncentral hypergeometric distribution.
// It sums from the mode outward by the ratios of neighbouring terms and stops
// where what is left cannot change the sum.
func logTilt(t table, omega float64) float64 {
	const negligible = 1e-17
	nc, nb, k := float64(t.nc), float64(t.nb), float64(t.kc+t.kb)
	low, high := max(0, k-nb), min(k, nc)
	mode := min(max(tiltMode(nc, nb, k, omega), low), high)

	sum := 1.0
	for i, term := mode, 1.0; i < high && term > negligible*sum; i++ {
		term *= omega * (nc - i) * (k - i) / ((i + 1) * (nb - k + i + 1))
		sum += term
	}
	for i, term := mode, 1.0; i > low && term > negligible*sum; i-- {
		term *= i * (nb - k + i) / (omega * (nc - i + 1) * (k - i + 1))
		sum += term
	}
	top := logChoose(nc, mode) + logChoose(nb, k-mode) + mode*math.Log(omega)
	return top + math.Log(sum) - logChoose(nc+nb, k)
}

// tiltMode is where the terms of S(ω) are largest: where the ratio of
// neighbours crosses 1, a quadratic equation (Liao & Rosen, Fast and stable
// algorithms for computing and sampling from the noncentral hypergeometric
// distribution, 2001). The caller clamps it; one off does no harm.
func tiltMode(nc, nb, k, omega float64) float64 {
	a := omega - 1
	b := omega*(nc+k) + nb - k + 2
	c := omega*nc*k - (nb - k + 1)
	return math.Floor(2*c/(b+math.Sqrt(max(0, b*b-4*a*c)))) + 1
}

// logChoose is ln C(n, k).
func logChoose(n, k float64) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n float64) float64 {
	l, _ := math.Lgamma(n + 1)
	return l
}
