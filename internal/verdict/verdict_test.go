package verdict

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

func deploy() config.Deploy {
	return config.Deploy{
		Canary: config.Canary{
			Steps:  []config.Step{{Weight: 0.1, Min: config.Duration(time.Second)}, {Weight: 0.5, Min: config.Duration(2 * time.Second)}},
			Warmup: config.Duration(3 * time.Second), Deadline: config.Duration(time.Minute), Block: config.Duration(time.Second),
		},
		Gate: config.Gate{Alpha: 0.01, Beta: 0.05, Tolerance: 0.15, OddsRatio: 2},
	}
}

func TestThePlanIsWhatTheFileSays(t *testing.T) {
	want := canary.Plan{
		Steps:  []canary.Step{{Weight: 1000, Min: time.Second}, {Weight: 5000, Min: 2 * time.Second}},
		Warmup: 3 * time.Second, Deadline: time.Minute,
	}
	if diff := cmp.Diff(want, Plan(deploy().Canary)); diff != "" {
		t.Error(diff)
	}
}

func TestTheDigestIsThatOfWhatAVerdictDependsOn(t *testing.T) {
	was := Digest(deploy())
	if len(was) != len("sha256:")+64 {
		t.Fatalf("digest %q", was)
	}
	if known := "sha256:0e49259ab1306571c49dae2ba0974b9e112ca872d2072529947f9b8cf49aabb2"; was != known { // ledgers hold verdicts under it
		t.Errorf("digest %s, it was %s", was, known)
	}
	for name, change := range map[string]struct {
		to      func(*config.Deploy)
		another bool
	}{
		"a stricter gate is another one":          {func(d *config.Deploy) { d.Gate.Alpha = 0.001 }, true},
		"another step is another one":             {func(d *config.Deploy) { d.Canary.Steps[0].Weight = 0.2 }, true},
		"a later deadline is another one":         {func(d *config.Deploy) { d.Canary.Deadline *= 2 }, true},
		"an objective makes another one":          {func(d *config.Deploy) { d.Gate.SLO.Errors = 0.01 }, true},
		"longer blocks make another one":          {func(d *config.Deploy) { d.Canary.Block *= 2 }, true},
		"where the service runs changes nothing":  {func(d *config.Deploy) { d.Target = "kubernetes" }, false},
		"how long it drains has nothing to do it": {func(d *config.Deploy) { d.Local.Drain++ }, false},
		"more time for its pods is another one":   {func(d *config.Deploy) { d.Target, d.Kubernetes.Ready = "kubernetes", 1 }, true},
		"more time for its daemons is another":    {func(d *config.Deploy) { d.Target, d.Kubernetes.Probe.Grace = "kubernetes", 1 }, true},
		"another way of the traffic is another":   {func(d *config.Deploy) { d.Target, d.Kubernetes.Traffic = "kubernetes", "httproute" }, true},
		"a step for a header makes another one":   {func(d *config.Deploy) { d.Target, d.Kubernetes.Header = "kubernetes", "x-env: canary" }, true},
		"a cluster that is not used is nothing":   {func(d *config.Deploy) { d.Target, d.Kubernetes.Ready = "local", 1 }, false},
		"how many pods there are is not judged":   {func(d *config.Deploy) { d.Target, d.Kubernetes.Replicas = "kubernetes", 9 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := deploy()
			change.to(&d)
			if got := Digest(d); (got != was) != change.another {
				t.Errorf("digest %s after %s", got, was)
			}
		})
	}
}

// looks of a canary that fails every second request.
func looks(t *testing.T) []canary.Look {
	t.Helper()
	var list []canary.Look
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 5 {
		l := canary.Look{Weight: 1000, Warmup: i == 0}
		l.Start, l.End = begin.Add(time.Duration(i)*time.Second), begin.Add(time.Duration(i+1)*time.Second)
		for range 100 {
			l.Baseline.Latency.Observe(time.Millisecond)
			l.Canary.Latency.Observe(time.Millisecond)
		}
		l.Baseline.Requests, l.Canary.Requests, l.Canary.Errors = 100, 100, 50
		list = append(list, l)
	}
	return list
}

func TestARecordingGivesTheVerdictAgain(t *testing.T) {
	was := looks(t)
	raw, err := EncodeLooks(was)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeLooks(raw)
	if err != nil {
		t.Fatal(err)
	}
	first, err := Again(Gate(deploy().Gate), was)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Again(Gate(deploy().Gate), got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	if first.Outcome != gate.Fail {
		t.Errorf("outcome %v, want fail", first.Outcome)
	}
}

func TestDamagedLooksNameTheirLine(t *testing.T) {
	_, err := DecodeLooks([]byte("{}\n{\n"))
	if err == nil || err.Error()[:6] != "line 2" {
		t.Errorf("error %v, want one that names line 2", err)
	}
}

func TestResult(t *testing.T) {
	ended := time.Date(2026, 1, 2, 3, 5, 0, 0, time.UTC)
	r := canary.Result{Trigger: canary.SLO, Reason: "slow", Looks: looks(t), Verdict: gate.Verdict{Outcome: gate.Fail}, Timeline: canary.Timeline{Breach: ended.Add(-time.Second), Traffic: ended}}
	want := release.Result{
		Outcome: release.RolledBack, Verdict: "fail", Trigger: release.SLO, Reason: "slow", Ended: ended,
		Requests: release.Requests{Stable: 500, Canary: 500}, Timeline: release.Timeline{Breach: ended.Add(-time.Second), Traffic: ended},
	}
	if diff := cmp.Diff(want, Result(r, ended)); diff != "" {
		t.Error(diff)
	}
	if got := Result(canary.Result{Promote: true}, ended).Outcome; got != release.Promoted {
		t.Errorf("a promotion is %q", got)
	}
}

func TestALineSaysWhatTheLookSaw(t *testing.T) {
	l := looks(t)[1]
	l.Odds, l.PassOdds, l.Outcome = 4812, 0.01, gate.Inconclusive
	want := "canary  10 %  stable   100 req p50 1.0 ms    canary   100 req p50 1.0 ms    50 errors  odds against 4 812 : 1, for < 0.1 : 1  inconclusive"
	if diff := cmp.Diff(want, Line(l)); diff != "" {
		t.Error(diff)
	}
	l.Canary = gate.Arm{}
	if got := Line(l); got[len(got)-1] != ')' {
		t.Errorf("a canary that gets nothing is not explained: %s", got)
	}
	l.Held = "requests were lost"
	if got := Line(l); !strings.Contains(got, "counts for nothing: requests were lost") {
		t.Errorf("a block that is held is not explained: %s", got)
	}
}
