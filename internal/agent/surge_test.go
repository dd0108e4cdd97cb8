package agent

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// draw is an interval with a rate; segments come in bursts of that many.
func draw(r *rand.Rand, sent int, rate float64, burst int) Segments {
	s := Segments{Sent: uint64(sent)}
	for range sent / burst {
		if r.Float64() < rate {
			s.Again += uint64(burst)
		}
	}
	return s
}

func baseline(r *rand.Rand, intervals, sent int, rate float64, burst int) []Segments {
	list := make([]Segments, intervals)
	for i := range list {
		list[i] = draw(r, sent, rate, burst)
	}
	return list
}

// TestSurgeFalseAlarms watches 60 intervals in which there is no surge. The worst
// case is a rate of exactly the limit that was worked out from the baseline.
func TestSurgeFalseAlarms(t *testing.T) {
	repetitions := 500
	if os.Getenv("SLUICE_LONG_TESTS") != "" {
		repetitions = 10_000
	}
	for name, tt := range map[string]struct {
		rate   float64
		sent   int
		factor float64 // of the baseline's rate; 0: what the test takes for its limit
		burst  int
	}{
		"exactly the limit, busy":    {0.004, 400, 0, 1},
		"exactly the limit, lossy":   {0.05, 100, 0, 1},
		"three times the true rate":  {0.004, 400, 3, 1},
		"three times a hardly known": {0.002, 50, 3, 1},
		"unchanged":                  {0.004, 400, 1, 1},
		"below the floor":            {0.0005, 400, 5, 1},
		"unchanged, in bursts of 10": {0.01, 400, 1, 10},
	} {
		alarms := 0
		for i := range repetitions {
			r := rand.New(rand.NewPCG(uint64(i), 7))
			s := NewSurge(baseline(r, 60, tt.sent, tt.rate, tt.burst))
			rate := tt.rate * tt.factor
			if rate == 0 {
				rate = s.Limit()
			}
			for range 60 {
				if s.Add(draw(r, tt.sent, rate, tt.burst)); s.Alarm() {
					alarms++
					break
				}
			}
		}
		got := float64(alarms) / float64(repetitions)
		limit := surgeAlpha + surgeDelta
		slack := 3 * math.Sqrt(limit*(1-limit)/float64(repetitions))
		t.Logf("%s: %d false alarms of %d", name, alarms, repetitions)
		if got > limit+slack {
			t.Errorf("%s: %.2f %% false alarms, at most %.2f %% were promised", name, 100*got, 100*limit)
		}
	}
}

func TestSurgeIsFoundWithinSeconds(t *testing.T) {
	for name, tt := range map[string]struct {
		rate, factor float64
		sent         int // an interval
		within       int // intervals, in 95 of 100 cases
	}{
		"ten times as many, 1 000 segments an interval":           {0.002, 10, 1000, 3},
		"ten times as many, 400 segments an interval":             {0.002, 10, 400, 30},
		"from none to a tenth, 100 segments":                      {0, 0.1, 100, 4},
		"half of all, after a lossy baseline":                     {0.05, 10, 200, 2},
		"everything, 20 segments an interval after a quiet start": {0, 1, 20, 1},
	} {
		late := 0
		for i := range 200 {
			r := rand.New(rand.NewPCG(uint64(i), 11))
			s := NewSurge(baseline(r, 60, tt.sent, tt.rate, 1))
			rate := tt.rate * tt.factor
			if tt.rate == 0 {
				rate = tt.factor
			}
			for range tt.within {
				s.Add(draw(r, tt.sent, rate, 1))
			}
			if !s.Alarm() {
				late++
			}
		}
		if late > 10 {
			t.Errorf("%s: not found within %d intervals in %d of 200 cases", name, tt.within, late)
		}
	}
}

func TestSurgeWithoutEvidence(t *testing.T) {
	for name, s := range map[string]*Surge{
		"no baseline":              NewSurge(nil),
		"a baseline of nothing":    NewSurge(make([]Segments, 60)),
		"more again than was sent": NewSurge([]Segments{{Sent: 1, Again: 9}}),
	} {
		for range 100 {
			s.Add(Segments{Sent: 10, Again: 2})
		}
		if s.Alarm() || math.IsNaN(s.Evidence()) {
			t.Errorf("%s: evidence %v against a limit of %v", name, s.Evidence(), s.Limit())
		}
	}
	quiet := NewSurge([]Segments{{Sent: 100_000}})
	if quiet.Rate() != 0 || quiet.Evidence() != 1 {
		t.Errorf("before anything was sent: rate %v, evidence %v", quiet.Rate(), quiet.Evidence())
	}
	if quiet.Limit() != surgeFloor {
		t.Errorf("after a quiet baseline the limit is %v, want the floor", quiet.Limit())
	}
	quiet.Add(Segments{Sent: 1000, Again: 3})
	if quiet.Alarm() || quiet.Rate() != 0.003 {
		t.Errorf("three segments of a thousand: evidence %v, rate %v", quiet.Evidence(), quiet.Rate())
	}
}

// Bursts widen the limit only where there is more than one interval to see them by.
func TestBurstsAreSeenByIntervalsWithTraffic(t *testing.T) {
	even := []Segments{{Sent: 1000, Again: 10}, {Sent: 1000, Again: 10}, {Sent: 1000, Again: 10}}
	bursts := []Segments{{Sent: 1000, Again: 30}, {Sent: 1000}, {Sent: 1000}}
	pauses := append([]Segments{{}, {}}, append(bursts, Segments{})...)
	alone := []Segments{{}, {Sent: 3000, Again: 30}, {}}
	limit := func(of []Segments) float64 { return NewSurge(of).Limit() }
	if limit(bursts) <= limit(even) {
		t.Errorf("bursts have a limit of %v, even losses one of %v", limit(bursts), limit(even))
	}
	if limit(pauses) != limit(bursts) {
		t.Errorf("with pauses the limit is %v, without %v", limit(pauses), limit(bursts))
	}
	if limit(alone) != limit(even) {
		t.Errorf("one interval with traffic has a limit of %v, want %v: it shows no bursts", limit(alone), limit(even))
	}
}

func TestUpperBound(t *testing.T) {
	for _, tt := range []struct{ k, n, low, high float64 }{
		{0, 0, 1, 1},
		{0, 100, 0.05159, 0.05161}, // Clopper-Pearson: 1 − 0.005^(1/100)
		{10, 1000, 0.0214, 0.0255}, // Clopper-Pearson: 0.02149
		{5, 5, 1, 1},
	} {
		if got := upperBound(tt.k, tt.n, 0.005); got < tt.low || got > tt.high {
			t.Errorf("upper bound of %v of %v is %v, want %v to %v", tt.k, tt.n, got, tt.low, tt.high)
		}
	}
}
