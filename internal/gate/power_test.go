package gate

import (
	"testing"
)

// led serves the baseline alone for lead seconds, as before every rollout.
func led(lead int, baseline, canary float64) func(int) (float64, float64) {
	return func(t int) (float64, float64) {
		if t <= lead {
			return baseline + canary, 0
		}
		return baseline, canary
	}
}

// TestPower is the golden table: the median number of blocks, of one second, to
// the outcome, with a band around what was measured when it was written. The
// time counts from the canary's first request, or from when it goes bad.
//
//	go test -run TestPower -v ./internal/gate
func TestPower(t *testing.T) {
	if testing.Short() {
		t.Skip("simulation")
	}
	const lead, turn = 20, 300
	healthy := newService(typical, 0.003, 0)
	slow := func(times float64) *service { return newService(scaled(times), 0.003, 0) }
	for _, tt := range []struct {
		name             string
		canary           *service
		baseRPS, canRPS  float64
		late             bool
		want             Outcome
		low, median, top int
	}{
		{"2× slower", slow(2), 90, 10, false, Fail, 2, 3, 5},
		{"1.5× slower", slow(1.5), 90, 10, false, Fail, 9, 13, 17},
		{"1.3× slower", slow(1.3), 90, 10, false, Fail, 45, 62, 85},
		{"2× slower at 1 request/s", slow(2), 90, 1, false, Fail, 18, 25, 35},
		{"2× slower at 90 requests/s", slow(2), 900, 90, false, Fail, 1, 1, 2},
		{"tail 0.3 % → 2.3 %", newService(typical, 0.023, 0), 90, 10, false, Fail, 90, 126, 170},
		{"5 % errors", newService(typical, 0.003, 0.05), 90, 10, false, Fail, 8, 14, 22},
		{"1 % errors", newService(typical, 0.003, 0.01), 90, 10, false, Fail, 50, 66, 85},
		{"1.5× slower after 5 min", slow(1.5), 90, 10, true, Fail, 18, 26, 36},
		{"healthy, 10 requests/s", healthy, 90, 10, false, Pass, 70, 97, 130},
		{"healthy, 100 requests/s", healthy, 900, 100, false, Pass, 7, 11, 16},
	} {
		x := trial{baseline: healthy, canary: tt.canary, rates: led(lead, tt.baseRPS, tt.canRPS), limit: lead + 600, stop: tt.want}
		from := lead
		if tt.late {
			x.canary, x.after, x.turn, from = healthy, tt.canary, lead+turn, lead+turn-1
		}
		trials := 100
		if raceDetector {
			trials = 50
		}
		_, times := x.repeat(trials)
		median := times[trials/2] - from
		t.Logf("%-28s %-4v median %3d s, 90 %% within %3d s", tt.name, tt.want, median, times[trials*9/10]-from)
		if median < tt.low || median > tt.top {
			t.Errorf("%s: median %d s, want %d to %d (written at %d)", tt.name, median, tt.low, tt.top, tt.median)
		}
	}
}
