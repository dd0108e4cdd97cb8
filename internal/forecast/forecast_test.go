package forecast

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
)

var plan = canary.Plan{
	Steps:  []canary.Step{{Weight: 1000, Min: 5 * time.Second}, {Weight: 5000, Min: 5 * time.Second}},
	Warmup: 2 * time.Second, Deadline: 2 * time.Minute,
}

func forecast(t *testing.T, s Service, r Release, seed uint64) Forecast {
	t.Helper()
	f, err := Run(gate.Config{PassTolerance: 0.1}, plan, time.Second, s, r, 20, seed)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestWhatIsForecast(t *testing.T) {
	for name, tt := range map[string]struct {
		service  Service
		release  Release
		promoted func(share float64) bool
		within   time.Duration
	}{
		"an equal release of a busy service is promoted soon": {Service{Rate: 500}, Release{}, func(p float64) bool { return p >= 0.9 }, time.Minute},
		"twice as slow is stopped soon":                       {Service{Rate: 500}, Release{Slower: 1}, func(p float64) bool { return p == 0 }, 10 * time.Second},
		"five per cent of errors are stopped soon":            {Service{Rate: 500}, Release{Errors: 0.05}, func(p float64) bool { return p == 0 }, 15 * time.Second},
		"a service without traffic ends at the deadline":      {Service{Rate: 0.1}, Release{}, func(p float64) bool { return p == 0 }, plan.Deadline + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := forecast(t, tt.service, tt.release, 1)
			if !tt.promoted(f.Promoted) || f.P90 > tt.within || f.Median > f.P90 {
				t.Errorf("got %+v", f)
			}
		})
	}
}

func TestMoreTrafficIsNoSlower(t *testing.T) {
	little, much := forecast(t, Service{Rate: 20}, Release{Slower: 1}, 1), forecast(t, Service{Rate: 1000}, Release{Slower: 1}, 1)
	if much.Median > little.Median {
		t.Errorf("%v with 1000 requests a second, %v with 20", much.Median, little.Median)
	}
}

func TestTheSameSeedIsTheSameForecast(t *testing.T) {
	a, b, c := forecast(t, Service{Rate: 100}, Release{}, 7), forecast(t, Service{Rate: 100}, Release{}, 7), forecast(t, Service{Rate: 100}, Release{}, 8)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	if cmp.Equal(a, c) {
		t.Error("another seed gives the very same")
	}
}

func TestAWrongPlanIsSaid(t *testing.T) {
	if _, err := Run(gate.Config{}, canary.Plan{}, time.Second, Service{Rate: 1}, Release{}, 1, 1); err == nil {
		t.Error("no error")
	}
	if _, err := Run(gate.Config{Alpha: 2}, plan, time.Second, Service{Rate: 1}, Release{}, 1, 1); err == nil {
		t.Error("no error")
	}
}
