package gate

import "math"

// dispersion estimates by how much the canary's share of the bad requests
// varies more from block to block than chance allows. Requests within a second
// share a garbage collection or a stolen processor, so they tell less than
// their number says: evidence is divided by the factor. That keeps an e-value
// one (Jensen: E[(e^ℓ)^(1/d)] ≤ 1 for d ≥ 1, d known before the block).
//
// It compares neighbouring windows of 1, 5, 15 and 60 blocks (von Neumann's
// mean square successive difference, 1941): a canary that is constantly worse
// is not noise, and cancels in the difference.
//
// A canary that is worse also varies more than chance allows under the null:
// that much is granted.
type dispersion struct {
	scales [4]scale
	all    table // the sum of all tables
}

// scale sums what was seen and what chance explains over windows of its size.
type scale struct {
	blocks             int // in the current window
	excess, variance   float64
	before, varBefore  float64 // the previous window
	windows            int
	squares, explained float64
}

// scaleBlocks are the sizes of the windows.
var scaleBlocks = [4]int{1, 5, 15, 60}

// minPairs and minEvents are what an estimate needs to count: pairs of windows
// and, in units of variance, bad requests that could have been either side's.
const (
	minPairs  = 8
	minEvents = 8
)

// add notes one block.
func (d *dispersion) add(t table) {
	d.all.nc += t.nc
	d.all.nb += t.nb
	d.all.kc += t.kc
	d.all.kb += t.kb
	mean, variance := t.expected()
	for i := range d.scales {
		d.scales[i].add(float64(t.kc)-mean, variance, scaleBlocks[i])
	}
}

func (s *scale) add(excess, variance float64, size int) {
	s.excess += excess
	s.variance += variance
	if s.blocks++; s.blocks < size {
		return
	}
	if s.windows > 0 {
		diff := s.excess - s.before
		s.squares += diff * diff / 2
		s.explained += (s.variance + s.varBefore) / 2
	}
	s.windows++
	s.before, s.varBefore = s.excess, s.variance
	s.blocks, s.excess, s.variance = 0, 0, 0
}

// factor is d ≥ 1, the largest of the four scales. An estimate from m pairs is
// first lowered by two standard errors, about 2·√(3/m) of it: evidence of
// noise is demanded before power is given up.
func (d *dispersion) factor() float64 {
	factor, granted := 1.0, d.granted()
	for _, s := range d.scales {
		m := float64(s.windows - 1)
		if m < minPairs || s.explained < minEvents {
			continue
		}
		factor = max(factor, s.squares/(s.explained*granted)/(1+2*math.Sqrt(3/m)))
	}
	return factor
}

// granted is by how much the odds ratio seen so far makes the variance larger
// than at odds ratio 1, at least 1. The variance of a table is about the
// harmonic sum of its cells (Cornfield 1956).
func (d *dispersion) granted() float64 {
	harmonic := func(canaryBad float64) float64 {
		nc, k := float64(d.all.nc), float64(d.all.kc+d.all.kb)
		baselineBad := k - canaryBad
		return 1 / (1/canaryBad + 1/(nc-canaryBad) + 1/baselineBad + 1/(float64(d.all.nb)-baselineBad))
	}
	mean, _ := d.all.expected()
	ratio := harmonic(float64(d.all.kc)) / harmonic(mean)
	if !(ratio > 1) { // also where a cell is empty: 0 or not a number
		return 1
	}
	return ratio
}
