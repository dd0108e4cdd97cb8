package canary

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// script is source, judge and target of a rollout that goes as written.
type script struct {
	blocks  []Observation
	says    []gate.Outcome
	err     error // of the source, once the blocks are over
	isolate error
	gone    chan struct{}
	weights []int
	next    int
	looked  int
	off     bool
}

func (s *script) Observe(ctx context.Context) (Observation, error) {
	if len(s.blocks) == 0 {
		if s.err == nil {
			<-ctx.Done()
			return Observation{}, ctx.Err()
		}
		return Observation{}, s.err
	}
	obs := s.blocks[0]
	s.blocks = s.blocks[1:]
	return obs, nil
}

func (s *script) Shift(w int) error     { s.weights = append(s.weights, w); return nil }
func (s *script) Isolate() error        { s.off = true; return s.isolate }
func (s *script) Gone() <-chan struct{} { return s.gone }

type judge struct{ *script }

func (j judge) NextStep() { j.next++ }

func (j judge) Observe(b gate.Block) gate.Verdict {
	o := j.says[min(j.looked, len(j.says)-1)]
	j.looked++
	if b.Fault != "" {
		o = gate.Invalid
	}
	return gate.Verdict{Outcome: o, Odds: 2}
}

// away is the error of a source that may be back soon.
type away struct{ soon bool }

func (away) Error() string     { return "the API server does not answer" }
func (e away) Temporary() bool { return e.soon }

func TestASourceThatIsAwayForAWhileGivesNoVerdict(t *testing.T) {
	var o Observation
	o.Start, o.End = time.Unix(1000, 0), time.Unix(1010, 0)
	for name, tt := range map[string]struct {
		blocks []Observation
		err    error
		errs   bool
		want   gate.Outcome
	}{
		"before the first block":                {nil, away{true}, true, gate.Inconclusive},
		"after a pass of the first step":        {[]Observation{o}, away{true}, true, gate.Inconclusive},
		"wrapped":                               {[]Observation{o}, fmt.Errorf("reading: %w", away{true}), true, gate.Inconclusive},
		"but one that stays away makes it void": {[]Observation{o}, away{false}, false, gate.Invalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{blocks: tt.blocks, says: []gate.Outcome{gate.Pass}, err: tt.err}
			res, err := Rollout{Plan: twoSteps, Target: s, Source: s, Judge: judge{s}}.Run(t.Context())
			if errors.Is(err, tt.err) != tt.errs || (err == nil) == tt.errs {
				t.Errorf("error %v", err)
			}
			if res.Promote || res.Verdict.Outcome != tt.want || res.Trigger != None || !s.off || res.Timeline.Traffic.IsZero() {
				t.Errorf("isolated %v: %+v", s.off, res)
			}
		})
	}
}

func TestRun(t *testing.T) {
	begin := time.Unix(1000, 0)
	block := func(fault string, mismatch bool) Observation {
		o := Observation{Mismatch: mismatch, FirstRequest: begin.Add(time.Second)}
		o.Start, o.End, o.Fault = begin, begin.Add(10*time.Second), fault
		return o
	}
	many := []Observation{block("", false), block("", false), block("", false), block("", false), block("", false), block("", false)}
	closed := make(chan struct{})
	close(closed)
	for name, tt := range map[string]struct {
		script  script
		warmup  time.Duration
		cancel  bool
		promote bool
		outcome gate.Outcome
		trigger Trigger
		looks   int
	}{
		"two passes promote":                      {script: script{blocks: many, says: []gate.Outcome{gate.Pass}}, promote: true, outcome: gate.Pass, looks: 2},
		"a fail rolls back":                       {script: script{blocks: many, says: []gate.Outcome{gate.Fail}}, outcome: gate.Fail, trigger: SLO, looks: 1},
		"a changed probe is a hash mismatch":      {script: script{blocks: []Observation{block("changed", true)}, says: []gate.Outcome{gate.Pass}}, outcome: gate.Invalid, trigger: HashMismatch, looks: 1},
		"lost requests have no trigger":           {script: script{blocks: []Observation{block("lost", false)}, says: []gate.Outcome{gate.Pass}}, outcome: gate.Invalid, looks: 1},
		"thin evidence ends at the deadline":      {script: script{blocks: many, says: []gate.Outcome{gate.Inconclusive}}, outcome: gate.Inconclusive, looks: 6},
		"no data is no pass":                      {script: script{blocks: many, says: []gate.Outcome{gate.NoData}}, outcome: gate.NoData, looks: 6},
		"a canary that dies is a crash":           {script: script{gone: closed}, outcome: gate.Fail, trigger: Crash},
		"an interrupt is the operator's":          {cancel: true, outcome: gate.Inconclusive, trigger: Operator},
		"a source that fails is invalid":          {script: script{err: errors.New("no map")}, outcome: gate.Invalid},
		"blocks of the warm-up are not judged":    {script: script{blocks: many, says: []gate.Outcome{gate.Fail}}, warmup: 10 * time.Second, outcome: gate.Fail, trigger: SLO, looks: 2},
		"a fault during the warm-up ends at once": {script: script{blocks: []Observation{block("lost", false)}, says: []gate.Outcome{gate.Pass}}, warmup: 10 * time.Second, outcome: gate.Invalid, looks: 1},
		"a target that does not obey is an error": {script: script{blocks: many, says: []gate.Outcome{gate.Fail}, isolate: errors.New("stuck")}, outcome: gate.Fail, trigger: SLO, looks: 1},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.cancel {
				cancel()
			}
			s := &tt.script
			plan := twoSteps
			plan.Warmup = tt.warmup
			res, err := Rollout{Plan: plan, Target: s, Source: s, Judge: judge{s}}.Run(ctx)
			if !errors.Is(err, s.isolate) {
				t.Errorf("error %v, want %v", err, s.isolate)
			}
			if res.Promote != tt.promote || res.Verdict.Outcome != tt.outcome || res.Trigger != tt.trigger || len(res.Looks) != tt.looks {
				t.Errorf("got %+v", res)
			}
			if s.off == tt.promote || res.Timeline.Traffic.IsZero() != (tt.promote || s.isolate != nil) {
				t.Errorf("isolated %v, timeline %+v", s.off, res.Timeline)
			}
			if tt.promote && (s.next != 1 || len(s.weights) != 3 || s.weights[2] != Full) {
				t.Errorf("steps %d, weights %v", s.next, s.weights)
			}
			if tt.trigger == SLO && (!res.Timeline.Breach.Equal(begin.Add(time.Second)) || res.Timeline.Evidence.IsZero()) {
				t.Errorf("timeline %+v", res.Timeline)
			}
		})
	}
}
