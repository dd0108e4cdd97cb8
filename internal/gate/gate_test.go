package gate_test

import (
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/gate"
)

// arm serves n requests around a median, evenly spread over a factor of four,
// of which some fail.
func arm(r *rand.Rand, n int, median time.Duration, failed uint64) gate.Arm {
	a := gate.Arm{Requests: uint64(n), Errors: failed}
	for range n {
		a.Latency.Observe(time.Duration(float64(median) * math.Exp2(2*r.Float64()-1)))
	}
	return a
}

const usual = 5 * time.Millisecond

// blocks makes n blocks of 90 and 10 requests with the canary at median, of
// whose requests some fail in each block.
func blocks(n int, median time.Duration, failed uint64) []gate.Block {
	r := rand.New(rand.NewPCG(uint64(n), uint64(median)))
	start := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	out := make([]gate.Block, n)
	for i := range out {
		out[i] = gate.Block{
			Start: start.Add(time.Duration(i) * time.Second), End: start.Add(time.Duration(i+1) * time.Second),
			Baseline: arm(r, 90, usual, 0), Canary: arm(r, 10, median, failed),
		}
	}
	return out
}

// silenced takes the canary's requests out of the blocks from number from on.
func silenced(bs []gate.Block, from int) []gate.Block {
	for i := range bs[from:] {
		bs[from+i].Canary = gate.Arm{}
	}
	return bs
}

func faulty(bs []gate.Block, at int) []gate.Block {
	bs[at].Fault = "17 events lost"
	return bs
}

func TestVerdicts(t *testing.T) {
	onlyCanary := blocks(60, usual, 0)
	for i := range onlyCanary {
		onlyCanary[i].Baseline = gate.Arm{}
	}
	slo := func(s gate.SLO) gate.Config { return gate.Config{SLO: s} }
	for name, tt := range map[string]struct {
		cfg    gate.Config
		blocks []gate.Block
		want   gate.Outcome
		reason string
	}{
		"nothing was observed":                  {gate.Config{}, nil, gate.NoData, "baseline has served no request"},
		"only the canary was served":            {gate.Config{}, onlyCanary, gate.NoData, "baseline has served no request"},
		"only the baseline was served":          {gate.Config{}, silenced(blocks(60, usual, 0), 0), gate.NoData, "canary has served no request"},
		"a baseline without history":            {gate.Config{}, blocks(1, 2*usual, 0), gate.Inconclusive, "waiting for evidence"},
		"a healthy canary, a moment later":      {gate.Config{}, blocks(10, usual, 0), gate.Inconclusive, "waiting for evidence"},
		"a healthy canary":                      {gate.Config{}, blocks(300, usual, 0), gate.Pass, "not worse than allowed"},
		"a slow canary":                         {gate.Config{}, blocks(30, 2*usual, 0), gate.Fail, "latency: p"},
		"a failing canary":                      {gate.Config{}, blocks(30, usual, 1), gate.Fail, "errors: failed 0 % → 10 %"},
		"a canary all of whose requests fail":   {gate.Config{}, blocks(30, usual, 10), gate.Fail, "errors: failed 0 % → 100 %"},
		"more errors counted than requests":     {gate.Config{}, blocks(30, usual, 12), gate.Fail, "errors: "},
		"a canary that falls silent":            {gate.Config{}, silenced(blocks(300, usual, 0), 265), gate.NoData, "no request for 35 blocks"},
		"a canary that is silent for a moment":  {gate.Config{}, silenced(blocks(300, usual, 0), 290), gate.Pass, "not worse"},
		"one block that cannot be trusted":      {gate.Config{}, faulty(blocks(300, usual, 0), 7), gate.Invalid, "cannot be trusted: 17 events lost"},
		"a fault after the canary has failed":   {gate.Config{}, faulty(blocks(60, 2*usual, 0), 50), gate.Fail, "latency: p"},
		"a fault before the canary would fail":  {gate.Config{}, faulty(blocks(60, 2*usual, 0), 0), gate.Invalid, "17 events lost"},
		"a counter that went backwards":         {gate.Config{}, []gate.Block{{Canary: gate.Arm{Requests: math.MaxUint64}}}, gate.Invalid, "a block counts 18446744073709551615 requests"},
		"an objective that both sides break":    {slo(gate.SLO{Latency: usual}), blocks(60, usual, 0), gate.Fail, "slo-latency: slower than 5.07 ms"},
		"an objective that is kept":             {slo(gate.SLO{Latency: 4 * usual, ErrorRatio: 0.02}), blocks(300, usual, 0), gate.Pass, "not worse"},
		"an error objective that is broken":     {slo(gate.SLO{ErrorRatio: 0.02}), blocks(30, usual, 1), gate.Fail, "errors: failed"},
		"a slower canary within more tolerance": {gate.Config{Tolerance: 1.2}, blocks(60, 2*usual, 0), gate.Inconclusive, "waiting for evidence"},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := gate.Replay(tt.cfg, tt.blocks)
			if err != nil {
				t.Fatal(err)
			}
			if v.Outcome != tt.want || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("%v: %s; want %v: …%s…", v.Outcome, v.Reason, tt.want, tt.reason)
			}
		})
	}
}

func TestUniformLatenciesCanPass(t *testing.T) {
	// Every request in one bucket: no request is ever above the median's edge,
	// so odds cannot be compared.
	var bs []gate.Block
	for range 120 {
		var b gate.Block
		b.Baseline.Requests, b.Canary.Requests = 90, 10
		b.Baseline.Latency.Add(400, 90)
		b.Canary.Latency.Add(400, 10)
		bs = append(bs, b)
	}
	if v, _ := gate.Replay(gate.Config{}, bs); v.Outcome != gate.Pass {
		t.Errorf("all equal: %v: %s", v.Outcome, v.Reason)
	}
	for i := range bs {
		bs[i].Canary.Latency = gate.Arm{}.Latency
		bs[i].Canary.Latency.Add(420, 10)
	}
	if v, _ := gate.Replay(gate.Config{}, bs); v.Outcome != gate.Fail {
		t.Errorf("all of the canary in a higher bucket: %v: %s", v.Outcome, v.Reason)
	}
}

func TestFailIsFinalAndKeepsItsEvidence(t *testing.T) {
	g, err := gate.New(gate.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var failed gate.Verdict
	for _, b := range blocks(30, 2*usual, 0) {
		if failed = g.Observe(b); failed.Outcome == gate.Fail {
			break
		}
	}
	failed.Checks[0].Name = "changed by the caller"
	for _, b := range blocks(300, usual, 0) {
		later := g.Observe(b)
		failed.Checks[0].Name = "latency"
		if diff := cmp.Diff(failed, later); diff != "" {
			t.Fatalf("the verdict changed after it was final (-then +now):\n%s", diff)
		}
	}
	if failed.Odds < 100 || failed.PValue > 0.01 || failed.Checks[0].Outcome != gate.Fail || failed.Checks[1].Outcome == gate.Fail {
		t.Errorf("evidence does not fit a failure by latency: %+v", failed)
	}
}

func TestReplayGivesTheSameBytes(t *testing.T) {
	recorded := blocks(100, usual*3/2, 0)
	cfg := gate.Config{SLO: gate.SLO{Latency: time.Second, ErrorRatio: 0.01}}
	g, err := gate.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var live gate.Verdict
	for _, b := range recorded {
		live = g.Observe(b)
	}
	data, err := json.Marshal(recorded)
	if err != nil {
		t.Fatal(err)
	}
	var read []gate.Block
	if err := json.Unmarshal(data, &read); err != nil {
		t.Fatal(err)
	}
	again, err := gate.Replay(cfg, read)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.Marshal(live)
	got, _ := json.Marshal(again)
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("replayed verdict differs (-live +replayed):\n%s", diff)
	}
	var decoded gate.Verdict
	if err := json.Unmarshal(got, &decoded); err != nil || !cmp.Equal(decoded, again) {
		t.Errorf("a verdict does not survive JSON: %v", err)
	}
}

func TestWrongConfigurationNamesTheField(t *testing.T) {
	for field, cfg := range map[string]gate.Config{
		"Alpha":            {Alpha: 1},
		"Beta":             {Beta: -0.1},
		"Tolerance":        {Tolerance: math.NaN()},
		"PassTolerance":    {PassTolerance: -1},
		"OddsRatio":        {OddsRatio: 1},
		"ErrorFloor":       {ErrorFloor: 1.5},
		"Quantiles":        {Quantiles: []float64{0.9, 0.5}},
		"SLO.Latency":      {SLO: gate.SLO{Latency: time.Hour}},
		"SLO.LatencyRatio": {SLO: gate.SLO{Latency: time.Second, LatencyRatio: 1}},
		"SLO.ErrorRatio":   {SLO: gate.SLO{ErrorRatio: 1}},
	} {
		_, err := gate.Replay(cfg, nil)
		var wrong *gate.ConfigError
		if !errors.As(err, &wrong) || wrong.Field != field || !strings.Contains(err.Error(), "want") {
			t.Errorf("%s: error %v", field, err)
		}
	}
}

func TestTheGateImportsNothingButTheStandardLibraryAndHistograms(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range file.Imports {
			path, _ := strconv.Unquote(imp.Path.Value)
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") && path != "github.com/sluice-cd/sluice/internal/histogram" {
				t.Errorf("%s imports %s", e.Name(), path)
			}
			if path == "os" || path == "net" || path == "math/rand/v2" {
				t.Errorf("%s imports %s: a gate does no I/O and draws no lots", e.Name(), path)
			}
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	block := gate.Block{Baseline: arm(r, 1000, usual, 3), Canary: arm(r, 1000, usual, 3)}
	g, err := gate.New(gate.Config{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		g.Observe(block)
	}
}
