package gate

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// service is a distribution of request durations, with errors: an alias table
// (Walker 1977).
type service struct {
	prob   [histogram.Buckets]float64
	other  [histogram.Buckets]int
	errors float64
}

// lognormal is the mass in every bucket around a median, with σ = 0.6 and a
// share tail of the requests taking ten times as long.
func lognormal(median time.Duration, tail float64) (mass [histogram.Buckets]float64) {
	below := func(seconds, median float64) float64 {
		return 0.5 * math.Erfc(-math.Log(seconds/median)/(0.6*math.Sqrt2))
	}
	previous := 0.0
	for i := range mass {
		at := histogram.EdgeSeconds(i)
		cdf := 1.0
		if !math.IsInf(at, 1) {
			cdf = (1-tail)*below(at, median.Seconds()) + tail*below(at, 10*median.Seconds())
		}
		mass[i], previous = cdf-previous, cdf
	}
	return mass
}

// newService has lognormal durations; of all requests the share errors fails.
func newService(median time.Duration, tail, errors float64) *service {
	return fromMass(lognormal(median, tail), errors)
}

// scaled is a number of times the usual median.
func scaled(times float64) time.Duration { return time.Duration(times * float64(typical)) }

// moved is the same service with every request later by some buckets: exactly
// the boundary of a tolerance of as many buckets.
func moved(median time.Duration, tail float64, by int) *service {
	return newService(time.Duration(float64(median)*math.Exp2(float64(by)/32)), tail, 0)
}

func fromMass(mass [histogram.Buckets]float64, errors float64) *service {
	s := &service{errors: errors}
	var small, large []int
	for i, m := range mass {
		s.prob[i] = m * histogram.Buckets
		if s.prob[i] < 1 {
			small = append(small, i)
		} else {
			large = append(large, i)
		}
	}
	for len(small) > 0 && len(large) > 0 {
		l, g := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		s.other[l] = g
		if s.prob[g] -= 1 - s.prob[l]; s.prob[g] < 1 {
			large = large[:len(large)-1]
			small = append(small, g)
		}
	}
	for _, i := range slices.Concat(small, large) {
		s.prob[i], s.other[i] = 1, i
	}
	return s
}

// serve adds n requests to an arm, each in a bucket higher by shift.
func (s *service) serve(r *rand.Rand, a *Arm, n, shift int) {
	a.Requests += uint64(n)
	for range n {
		u := r.Float64() * histogram.Buckets
		i := int(u)
		if u-float64(i) >= s.prob[i] {
			i = s.other[i]
		}
		a.Latency.Add(min(max(i+shift, 0), histogram.Buckets-1), 1)
		if s.errors > 0 && r.Float64() < s.errors {
			a.Errors++
		}
	}
}

// poisson draws a count with the given mean, at most some hundreds (Knuth).
func poisson(r *rand.Rand, mean float64) int {
	limit, product, n := math.Exp(-mean), r.Float64(), 0
	for product > limit {
		product *= r.Float64()
		n++
	}
	return n
}

// trial is one simulated rollout.
type trial struct {
	cfg              Config
	baseline, canary *service
	// rates are requests a second of baseline and canary in block t; noise the
	// shifts of both, in buckets.
	rates func(t int) (baseline, canary float64)
	noise func(r *rand.Rand, t int, state *[2]float64) (baseline, canary int)
	limit int // blocks
	stop  Outcome
	after *service // the canary from block turn on, if turn is positive
	turn  int
}

// result is when the trial first had the outcome it stops at; 0 is never.
func (x trial) run(seed uint64) int {
	r := rand.New(rand.NewPCG(seed, 20240229))
	g, err := New(x.cfg)
	if err != nil {
		panic(err)
	}
	var state [2]float64
	for t := 1; t <= x.limit; t++ {
		var b Block
		nb, nc := x.rates(t)
		sb, sc := 0, 0
		if x.noise != nil {
			sb, sc = x.noise(r, t, &state)
		}
		x.baseline.serve(r, &b.Baseline, poisson(r, nb), sb)
		canary := x.canary
		if x.turn > 0 && t >= x.turn {
			canary = x.after
		}
		canary.serve(r, &b.Canary, poisson(r, nc), sc)
		g.weigh(&b)
		if g.outcome() == x.stop {
			return t
		}
	}
	return 0
}

// repeat runs n trials on all processors and returns how many reached the
// outcome and when: the sorted times, never counted as limit+1.
func (x trial) repeat(n int) (reached int, times []int) {
	times = make([]int, n)
	var next, hits atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				times[i] = x.run(uint64(i))
				if times[i] > 0 {
					hits.Add(1)
				} else {
					times[i] = x.limit + 1
				}
			}
		})
	}
	wg.Wait()
	slices.Sort(times)
	return int(hits.Load()), times
}

// constant rates of baseline and canary.
func constant(baseline, canary float64) func(int) (float64, float64) {
	return func(int) (float64, float64) { return baseline, canary }
}
