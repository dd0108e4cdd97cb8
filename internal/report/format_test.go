package report

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// plain makes thin spaces visible as ordinary ones.
func plain(s string) string { return strings.ReplaceAll(s, thin, " ") }

func TestFormats(t *testing.T) {
	for want, got := range map[string]string{
		"0":              duration(0),
		"950 µs":         duration(950 * time.Microsecond),
		"1 ms":           duration(999600 * time.Nanosecond),
		"4.07 ms":        duration(4070 * time.Microsecond),
		"12.3 ms":        duration(12345 * time.Microsecond),
		"1.5 s":          duration(1500 * time.Millisecond),
		"84.2 s":         duration(84200 * time.Millisecond),
		"3 min 20 s":     duration(200 * time.Second),
		"2 h 5 s":        duration(2*time.Hour + 5*time.Second),
		"100":            digits(99.96),
		"−0.5":           digits(-.5),
		"5.2 %":          percent(.052),
		"18 230":         count(18230),
		"999":            count(999),
		"1 000 000":      count(1000000),
		"25 %":           ratio(1, 4),
		"–":              ratio(1, 0),
		"618 : 1":        odds(618.4),
		"0.54 : 1":       odds(.54),
		"10¹² : 1":       odds(3e12),
		"> 10³⁰⁰ : 1":    odds(1e300),
		"< 0.01 : 1":     odds(0),
		"+1.5 s":         offset(start, start.Add(1500*time.Millisecond)),
		"+2:05.3":        offset(start, start.Add(125300*time.Millisecond)),
		"+1:00.0":        offset(start, start.Add(59999*time.Millisecond)),
		"−0.5 s":         offset(start, start.Add(-500*time.Millisecond)),
		"12.0 % (5.1 s)": tight("12.0 % (5.1 s)"),
		"the same":       change(.02),
		"92 % slower":    change(.92),
		"10 % faster":    change(-.1),
		"1:30":           seconds(90),
		"2 min":          seconds(120),
		"1 h":            seconds(3600),
	} {
		if plain(got) != want {
			t.Errorf("got %q, want %q", plain(got), want)
		}
	}
}

func TestAxes(t *testing.T) {
	labels := func(a axis) string {
		var out []string
		for _, tick := range a.ticks {
			out = append(out, plain(tick.Label))
		}
		return strings.Join(out, " | ")
	}
	for name, tt := range map[string]struct {
		axis axis
		want string
	}{
		"eleven seconds":           {timeAxis(11*time.Second, 6), "0 | 2 s | 4 s | 6 s | 8 s | 10 s"},
		"half an hour":             {timeAxis(30*time.Minute, 6), "0 | 5 min | 10 min | 15 min | 20 min | 25 min | 30 min"},
		"no time at all":           {timeAxis(0, 6), "0 | 1 s"},
		"a month":                  {timeAxis(28*24*time.Hour, 6), "0 | 168 h | 336 h | 504 h | 672 h"},
		"up to 180":                {linearAxis(180, digits), "0 | 50 | 100 | 150 | 200"},
		"up to 1 %":                {linearAxis(.01, percent), "0 % | 0.5 % | 1 %"},
		"up to nothing":            {linearAxis(0, digits), "0 | 0.5 | 1"},
		"not a number":             {linearAxis(math.NaN(), digits), "0 | 0.5 | 1"},
		"milliseconds":             {latencyAxis(.0031, .024), "2 ms | 5 ms | 10 ms | 20 ms | 50 ms"},
		"all the same":             {latencyAxis(.005, .005), "5 ms | 10 ms"},
		"microseconds to a minute": {latencyAxis(2e-6, 60), "2 µs | 50 µs | 1 ms | 20 ms | 500 ms | 10 s"},
		"no latency":               {latencyAxis(math.Inf(1), 0), "1 ms | 5 ms | 20 ms | 100 ms"},
		"odds":                     {oddsAxis(-3, 3), "10⁻³ | 10⁻² | 10⁻¹ | 1 | 10 | 100 | 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := labels(tt.axis); got != tt.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestPaths(t *testing.T) {
	at := func(x float64) sample { return sample{x, 0, true} }
	gap := sample{}
	for want, got := range map[string]string{
		"":                             path(nil),
		"M1 1000L2 1000":               path([]sample{at(1), at(2)}),
		"M1 1000L2 1000M4 1000L5 1000": path([]sample{at(1), at(2), gap, at(4), at(5)}),
		"M1 1000h0M3 1000h0":           path([]sample{at(1), gap, at(3)}),
		"M0 1000H10V500H1000":          steps([]sample{at(0), {10, 500, true}}),
		"M0.1 999.7L0.3 1000":          path([]sample{{.123, .31, true}, {.28, .01, true}}),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestThinningLosesNeitherRequestsNorPeaks(t *testing.T) {
	blocks := scenarios["half an hour"].data().Blocks
	sum := total(blocks)
	for _, size := range []int{1, coarse(len(blocks)), forQuantiles(blocks)} {
		var n uint64
		bs := bins(blocks, size)
		for i := range bs {
			n += bs[i].Arms[canary].Latency.Count()
		}
		if n != sum.Arms[canary].Requests || size > 1 && len(bs) > maxBins {
			t.Errorf("%d blocks a bin: %d requests of %d in %d bins", size, n, sum.Arms[canary].Requests, len(bs))
		}
	}
	points := make([]Point, 1000)
	points[777].Odds, points[123].PassOdds = 50, 60
	few := thinOut(points, 100)
	has := func(p Point) bool { return slices.Contains(few, p) }
	if len(few) > 101 || !has(points[777]) || !has(points[123]) {
		t.Errorf("%d points, peaks kept: %v, %v", len(few), has(points[777]), has(points[123]))
	}
}

func TestThinTrafficGetsLongerBins(t *testing.T) {
	thick, rare := make([]gate.Block, 240), make([]gate.Block, 240)
	for i := range thick {
		thick[i].Baseline.Requests, thick[i].Canary.Requests = 900, 100
		rare[i].Baseline.Requests, rare[i].Canary.Requests = 9, 1
	}
	if a, b := forQuantiles(thick), forQuantiles(rare); a != 2 || b != 20 {
		t.Errorf("%d and %d blocks a bin, want 2 and 20", a, b)
	}
}

func TestAPointTakesTheWeakestComparison(t *testing.T) {
	v := gate.Verdict{Odds: 3, Checks: []gate.Check{
		{Name: "latency", PassOdds: 40}, {Name: "errors", PassOdds: 7}, {Name: "slo-errors", PassOdds: 2},
	}}
	if got, want := PointOf(start, v), (Point{start, 3, 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
