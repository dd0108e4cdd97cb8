package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// arm answers n requests within d each; every failEach-th of them fails.
func arm(n int, d time.Duration, failEach int) gate.Arm {
	a := gate.Arm{Requests: uint64(n)}
	for i := range n {
		a.Latency.Observe(d + time.Duration(i)*time.Microsecond)
		if failEach > 0 && i%failEach == 0 {
			a.Errors++
		}
	}
	return a
}

// judged runs a rollout of recorded blocks as canary.Rollout does, and records
// it as the record step does.
func judged(t *testing.T, dir string, blocks []gate.Block) gate.Verdict {
	t.Helper()
	g, err := gate.New(gate.Config{})
	if err != nil {
		t.Fatal(err)
	}
	r := &Rollout{Job: Job{Config: &config.Config{}}, Record: &release.Record{}}
	for i, b := range blocks {
		look := canary.Look{Block: b, Weight: 5000}
		if i == len(blocks)/2 {
			g.NextStep()
		}
		if i >= len(blocks)/2 {
			look.Step = 1
		}
		r.result.Verdict = g.Observe(b)
		look.Outcome, look.Odds = r.result.Verdict.Outcome, r.result.Verdict.Odds
		r.result.Looks = append(r.result.Looks, look)
	}
	if err := (Record{r}).writeRecording(dir); err != nil {
		t.Fatal(err)
	}
	return r.result.Verdict
}

func TestReplayComesToTheSameVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		canary gate.Arm
		want   gate.Outcome
	}{
		"a release that is as good":   {arm(400, 5*time.Millisecond, 0), gate.Pass},
		"a release that is slower":    {arm(400, 20*time.Millisecond, 0), gate.Fail},
		"a release that fails":        {arm(400, 5*time.Millisecond, 10), gate.Fail},
		"a release without a request": {gate.Arm{}, gate.NoData},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var blocks []gate.Block
			for i := range 12 {
				start := time.Unix(int64(i), 0).UTC()
				blocks = append(blocks, gate.Block{Start: start, End: start.Add(time.Second), Baseline: arm(400, 5*time.Millisecond, 0), Canary: tt.canary})
			}
			want := judged(t, dir, blocks)
			if want.Outcome != tt.want {
				t.Fatalf("the gate says %v, want %v: %s", want.Outcome, tt.want, want.Reason)
			}
			got, rec, err := Replay(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []gate.Verdict{got, rec.Verdict} {
				if diff := cmp.Diff(asJSON(t, want), asJSON(t, v)); diff != "" {
					t.Errorf("verdict (-recorded +again):\n%s", diff)
				}
			}
		})
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestReplayWithOtherSettings(t *testing.T) {
	dir := t.TempDir()
	judged(t, dir, []gate.Block{{End: time.Unix(1, 0), Baseline: arm(400, 5*time.Millisecond, 0), Canary: arm(400, 20*time.Millisecond, 0)}})
	if _, _, err := Replay(dir, &gate.Config{Alpha: 2}); err == nil {
		t.Error("settings that make no sense were taken")
	}
	if err := os.WriteFile(filepath.Join(dir, "samples.jsonl"), []byte("{}\n{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Replay(dir, nil); err == nil {
		t.Error("a torn recording was judged")
	}
}

func TestRolloutDir(t *testing.T) {
	out := t.TempDir()
	if _, err := RolloutDir(out, 0, ""); !errors.Is(err, ErrNoRollout) {
		t.Errorf("without a ledger: %v", err)
	}
	ledger, err := release.OpenLedger(ledgerPath(out))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []release.Rollout{{Version: "v1.0.0"}, {Version: "v1.1.0"}, {Version: "v1.0.0"}, {Version: "v1.1.0", Operator: "root"}} {
		r.Name, r.Started = "hello", time.Now()
		id, err := ledger.Start(r)
		if err == nil {
			err = ledger.Finish(id, release.Result{Outcome: release.Promoted, Ended: time.Now()})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := ledger.Close(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		id      int
		version string
		want    string
	}{
		"the newest is no rollback by hand": {want: "0003-v1.0.0"},
		"the newest of a version":           {version: "v1.1.0", want: "0002-v1.1.0"},
		"by number":                         {id: 1, want: "0001-v1.0.0"},
		"number and version must agree":     {id: 1, version: "v1.1.0"},
		"a rollback by hand has no samples": {id: 4},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := RolloutDir(out, tt.id, tt.version)
			if tt.want == "" {
				if !errors.Is(err, ErrNoRollout) {
					t.Errorf("got %q, %v", dir, err)
				}
			} else if want := filepath.Join(out, "rollouts", tt.want); err != nil || dir != want {
				t.Errorf("got %q, %v; want %q", dir, err, want)
			}
		})
	}
}
