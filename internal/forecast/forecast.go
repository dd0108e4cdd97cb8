// Package forecast says, before a release is rolled out, how long the rollout
// will take and how much traffic a bad release will get: it runs the real gate
// and the real policy on made-up requests.
//
// Latencies are log-normal and requests independent, which no service is; the
// answer is of the right size, no more. What it is good for is the comparison of
// settings, and to see that a deadline is too short for a service with little
// traffic.
package forecast

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
)

// Service is what is known of a service.
type Service struct {
	Rate   float64 // requests a second, of both versions together
	Errors float64 // share of requests that fail, between 0 and 1
}

// Release is how a release differs from the stable version. The zero value does
// not.
type Release struct {
	Slower float64 // 0.5: every request takes half as long again
	Errors float64 // share of requests that fail in addition
}

// End is how one rollout ended.
type End struct {
	Promoted bool
	Outcome  gate.Outcome
	After    time.Duration // since the first traffic
	Requests uint64        // that the canary got
}

// Forecast sums up many rollouts of the same release.
type Forecast struct {
	Promoted float64              `json:"promoted"` // share of the rollouts
	Median   time.Duration        `json:"median_nanos"`
	P90      time.Duration        `json:"p90_nanos"`
	Requests uint64               `json:"canary_requests"` // median
	Outcomes map[gate.Outcome]int `json:"outcomes"`
}

// maxRate bounds the work: beyond it the steps decide how long a rollout takes,
// not the evidence.
const maxRate = 2000

// Run rolls a release out so many times, each time with other requests; the same
// seed gives the same forecast. The error says what is wrong with the gate or the
// plan.
func Run(cfg gate.Config, plan canary.Plan, block time.Duration, s Service, r Release, times int, seed uint64) (Forecast, error) {
	if err := plan.Validate(); err != nil {
		return Forecast{}, err
	}
	s.Rate = min(s.Rate, maxRate)
	ends := make([]End, times)
	for i := range ends {
		g, err := gate.New(cfg)
		if err != nil {
			return Forecast{}, err
		}
		w := world{Service: s, release: r, block: block, random: rand.New(rand.NewPCG(seed, uint64(i)))}
		ends[i] = w.rollout(g, plan)
	}
	return sum(ends), nil
}

func sum(ends []End) Forecast {
	f := Forecast{Outcomes: map[gate.Outcome]int{}}
	promoted := 0
	var after []time.Duration
	var requests []uint64
	for _, e := range ends {
		if e.Promoted {
			promoted++
		}
		f.Outcomes[e.Outcome]++
		after, requests = append(after, e.After), append(requests, e.Requests)
	}
	f.Promoted = float64(promoted) / float64(len(ends))
	slices.Sort(after)
	slices.Sort(requests)
	f.Median, f.P90, f.Requests = after[len(after)/2], after[len(after)*9/10], requests[len(requests)/2]
	return f
}

// world is a service with a release on its way.
type world struct {
	Service
	release Release
	block   time.Duration
	random  *rand.Rand
}

// rollout is what canary.Rollout does, without a clock.
func (w *world) rollout(g *gate.Gate, plan canary.Plan) End {
	var state canary.State
	var end End
	for now := time.Unix(0, 0); ; now = now.Add(w.block) {
		share := float64(plan.Steps[state.Step].Weight) / canary.Full
		b := gate.Block{
			Start: now, End: now.Add(w.block),
			Baseline: w.arm(1-share, Release{}), Canary: w.arm(share, w.release),
		}
		end.Requests += b.Canary.Requests
		if state.For < plan.Warmup {
			b.Canary = gate.Arm{}
			g.Observe(b)
			state.For += w.block
			continue
		}
		verdict := g.Observe(b)
		var action canary.Action
		action, state = canary.Decide(plan, state, w.block, verdict.Outcome)
		end.Outcome, end.After = verdict.Outcome, now.Add(w.block).Sub(time.Unix(0, 0))
		switch action {
		case canary.Promote:
			end.Promoted = true
			return end
		case canary.RollBack:
			return end
		case canary.Advance:
			g.NextStep()
		}
	}
}

// arm is what one version answers in a block.
func (w *world) arm(share float64, r Release) gate.Arm {
	const median, spread = 5 * time.Millisecond, 0.5
	var a gate.Arm
	for range w.poisson(w.Rate * share * w.block.Seconds()) {
		a.Requests++
		if w.random.Float64() < w.Errors+r.Errors {
			a.Errors++
		}
		a.Latency.Observe(time.Duration(float64(median) * (1 + r.Slower) * math.Exp(spread*w.random.NormFloat64())))
	}
	return a
}

// poisson draws how many of the expected requests come.
func (w *world) poisson(mean float64) int {
	if mean > 500 { // close to normal
		return max(0, int(math.Round(mean+math.Sqrt(mean)*w.random.NormFloat64())))
	}
	n := 0
	for p := w.random.Float64(); p > math.Exp(-mean); p *= w.random.Float64() {
		n++
	}
	return n
}
