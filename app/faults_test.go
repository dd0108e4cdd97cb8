package main

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// drawn returns the sorted delays and the number of failures of n requests,
// always the same ones.
func drawn(f faults, n int) (delays []time.Duration, failed int) {
	r := rand.New(rand.NewPCG(1, 2))
	for range n {
		delay, fail := f.draw(r)
		delays = append(delays, delay)
		if fail {
			failed++
		}
	}
	slices.Sort(delays)
	return delays, failed
}

// near says whether got is within 5 % of want: ten times the error of the
// estimates below.
func near(got, want float64) bool { return math.Abs(got-want) <= 0.05*want }

func TestDrawFollowsTheKnobs(t *testing.T) {
	const n = 100_000
	base := faults{Latency: 2 * time.Millisecond, LatencySigma: 0.3, TailFactor: 10}
	with := func(change func(*faults)) faults {
		f := base
		change(&f)
		return f
	}
	// The 90th percentile of a lognormal is median × e^(1.2816 σ).
	p90 := 2e6 * math.Exp(1.2816*0.3)
	for name, tt := range map[string]struct {
		f             faults
		p50, p90, max float64 // nanoseconds, max only an upper bound
		failed        float64
	}{
		"the default is lognormal around 2 ms":      {base, 2e6, p90, 20e6, 0},
		"without sigma every request is the same":   {with(func(f *faults) { f.LatencySigma = 0 }), 2e6, 2e6, 2e6, 0},
		"extra latency moves all of it":             {with(func(f *faults) { f.ExtraLatency = 5e6 }), 7e6, p90 + 5e6, 25e6, 0},
		"a fifth in the tail shows at the 90th":     {with(func(f *faults) { f.LatencySigma, f.TailRatio = 0, 0.2 }), 2e6, 20e6, 20e6, 0},
		"a thin tail leaves the 90th where it was":  {with(func(f *faults) { f.LatencySigma, f.TailRatio = 0, 0.01 }), 2e6, 2e6, 20e6, 0},
		"errors do not change the latency":          {with(func(f *faults) { f.ErrorRatio = 0.05 }), 2e6, p90, 20e6, 0.05 * n},
		"ratio one fails them all":                  {with(func(f *faults) { f.ErrorRatio = 1 }), 2e6, p90, 20e6, n},
		"a delay beyond a minute is cut":            {faults{Latency: time.Hour}, 60e9, 60e9, 60e9, 0},
		"the zero value neither waits nor fails":    {faults{}, 0, 0, 0, 0},
		"sigma without latency is no latency":       {faults{LatencySigma: 3}, 0, 0, 0, 0},
		"the widest sigma stays within the minute":  {faults{Latency: 2 * time.Millisecond, LatencySigma: 3}, 2e6, 2e6 * math.Exp(1.2816*3), 60e9, 0},
		"tail and errors are drawn independently":   {with(func(f *faults) { f.LatencySigma, f.TailRatio, f.ErrorRatio = 0, 0.2, 0.2 }), 2e6, 20e6, 20e6, 0.2 * n},
		"the tail factor multiplies the extra, too": {faults{ExtraLatency: 1e6, TailRatio: 1, TailFactor: 3}, 3e6, 3e6, 3e6, 0},
	} {
		t.Run(name, func(t *testing.T) {
			delays, failed := drawn(tt.f, n)
			if p50, p90 := delays[n/2], delays[n*9/10]; !near(float64(p50), tt.p50) || !near(float64(p90), tt.p90) {
				t.Errorf("p50 %v p90 %v, want %v and %v", p50, p90, time.Duration(tt.p50), time.Duration(tt.p90))
			}
			if delays[0] < 0 || float64(delays[n-1]) > tt.max {
				t.Errorf("delays from %v to %v, want 0 to %v", delays[0], delays[n-1], time.Duration(tt.max))
			}
			if !near(float64(failed), tt.failed) {
				t.Errorf("%d of %d failed, want about %.0f", failed, n, tt.failed)
			}
		})
	}
}

func TestSufferKeepsWhatItLeaks(t *testing.T) {
	in := newInjector(faults{LeakBytes: 10_000}, sharedRand())
	for range 7 {
		if err := in.suffer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := in.leaked.Load(); got != 70_000 || len(in.leak) != 7 {
		t.Errorf("leaked %d bytes in %d blocks, want 70000 in 7", got, len(in.leak))
	}
}

func TestSufferStopsWithItsClient(t *testing.T) {
	in := newInjector(faults{Latency: time.Minute}, sharedRand())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	start := time.Now()
	if err := in.suffer(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// The burn is a fixed amount of work, so on a busy machine it may take much
// longer than asked, but not much less.
func TestSufferBurnsTheProcessor(t *testing.T) {
	in := newInjector(faults{CPU: 10 * time.Millisecond}, sharedRand())
	start := time.Now()
	for range 10 {
		if err := in.suffer(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("10 burns of 10 ms took %v", d)
	}
}
