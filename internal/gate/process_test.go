package gate

import (
	"math"
	"testing"
)

func TestLateStartsKeepTheExpectation(t *testing.T) {
	// Three blocks of two requests a side, every course of events.
	const p = 0.4
	var play func(process, int) float64
	play = func(c process, blocks int) float64 {
		if blocks == 0 {
			return math.Exp(c.value())
		}
		return expectation(2, 2, p, p, func(x table) float64 {
			next := c
			next.add(x.logRatio(2))
			return play(next, blocks-1)
		})
	}
	if got := play(newProcess(), 3); math.Abs(got-1) > exact {
		t.Errorf("E after three blocks = %.15f, want 1", got)
	}
}

func TestCappingCanOnlyLowerAnExpectation(t *testing.T) {
	const limit = 0.1
	c := capped{limit: limit}
	for _, l := range []float64{3, -1, 0.5, -2} {
		if c.add(l); c.log > limit {
			t.Fatalf("holds %g, more than %g", c.log, limit)
		}
	}
	if want := limit - 1 + 0.5 - 2; math.Abs(c.log-want) > exact {
		t.Errorf("holds %g, want %g: what is above the cap is forgotten", c.log, want)
	}
}

func TestLogSums(t *testing.T) {
	inf := math.Inf(-1)
	for name, tt := range map[string]struct{ got, want float64 }{
		"of equals":               {logAdd(1, 1), 1 + math.Ln2},
		"of nothing and one":      {logAdd(inf, 2), 2},
		"of nothing":              {logAdd(inf, inf), inf},
		"of far apart":            {logAdd(800, -800), 800},
		"mean of none":            {logMean(nil, nil), 0},
		"mean of equals":          {logMean([]float64{5, 5}, []float64{3, 1}), 5},
		"mean is weighted":        {logMean([]float64{math.Log(2), math.Log(6)}, []float64{3, 1}), math.Log(3)},
		"mean of the very large":  {logMean([]float64{9000, 0}, []float64{1, 1}), 9000 - math.Ln2},
		"mean of the very little": {logMean([]float64{-9000, -9000}, []float64{1, 1}), -9000},
	} {
		if tt.got != tt.want && math.Abs(tt.got-tt.want) > exact {
			t.Errorf("%s: got %g, want %g", name, tt.got, tt.want)
		}
	}
}

func TestDispersion(t *testing.T) {
	constant := func(int) table { return table{100, 100, 60, 40} }
	jumpy := func(i int) table {
		if i/5%2 == 0 {
			return table{100, 100, 70, 30}
		}
		return table{100, 100, 30, 70}
	}
	for name, tt := range map[string]struct {
		blocks   int
		at       func(int) table
		low, top float64
	}{
		"a constant effect is no noise":         {200, constant, 1, 1},
		"noise over five blocks is found":       {200, jumpy, 10, 1000},
		"little history gives no divisor":       {8, jumpy, 1, 1},
		"a single bad request gives no divisor": {200, func(i int) table { return table{1, 9, uint64(i / 199), 0} }, 1, 1},
		"blocks in which all are bad are fine":  {50, func(int) table { return table{4, 4, 4, 4} }, 1, 1},
	} {
		var d dispersion
		for i := range tt.blocks {
			d.add(tt.at(i))
		}
		if got := d.factor(); got < tt.low || got > tt.top {
			t.Errorf("%s: divisor %g, want %g to %g", name, got, tt.low, tt.top)
		}
	}
}
