package pipeline

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/release"
)

func promotion(version string) release.Record {
	return release.Record{Rollout: release.Rollout{Version: version}, Result: release.Result{Outcome: release.Promoted}}
}

func withdrawal(from, to string) release.Record {
	return release.Record{
		Rollout: release.Rollout{Version: from, Previous: to, Operator: "root"},
		Result:  release.Result{Outcome: release.RolledBack, Trigger: release.Operator},
	}
}

func TestRollbackTarget(t *testing.T) {
	failed := release.Record{Rollout: release.Rollout{Version: "v3.0.0"}, Result: release.Result{Outcome: release.RolledBack, Trigger: release.SLO}}
	for name, tt := range map[string]struct {
		history         []release.Record
		to              string
		from, want, err string
	}{
		"nothing was ever promoted":          {err: "there is nothing to roll back: no version was promoted yet"},
		"the first version has none before":  {history: []release.Record{promotion("v1.0.0")}, err: "there is no version before v1.0.0 to go back to"},
		"the one before":                     {history: []release.Record{promotion("v1.0.0"), promotion("v2.0.0")}, from: "v2.0.0", want: "v1.0.0"},
		"a failed one in between is skipped": {history: []release.Record{promotion("v1.0.0"), failed, promotion("v4.0.0")}, from: "v4.0.0", want: "v1.0.0"},
		"twice goes two back": {
			history: []release.Record{promotion("v1.0.0"), promotion("v2.0.0"), promotion("v3.0.0"), withdrawal("v3.0.0", "v2.0.0")},
			from:    "v2.0.0", want: "v1.0.0",
		},
		"a named one": {history: []release.Record{promotion("v1.0.0"), promotion("v2.0.0"), promotion("v3.0.0")}, to: "v1.0.0", from: "v3.0.0", want: "v1.0.0"},
		"forward again to a named one": {
			history: []release.Record{promotion("v1.0.0"), promotion("v2.0.0"), withdrawal("v2.0.0", "v1.0.0")},
			to:      "v2.0.0", from: "v1.0.0", want: "v2.0.0",
		},
		"a named one that serves":             {history: []release.Record{promotion("v1.0.0")}, to: "v1.0.0", err: "v1.0.0 is the version that serves"},
		"a named one that was never promoted": {history: []release.Record{promotion("v1.0.0"), failed}, to: "v3.0.0", err: "v3.0.0 was never promoted; sluice history lists what was"},
	} {
		t.Run(name, func(t *testing.T) {
			from, to, err := rollbackTarget(tt.history, tt.to)
			if from != tt.from || to != tt.want || errorText(err) != tt.err {
				t.Errorf("got %q → %q, %v; want %q → %q, %s", from, to, err, tt.from, tt.want, tt.err)
			}
		})
	}
}

func TestUnfinishedRollouts(t *testing.T) {
	rollout := release.Rollout{Version: "v2.0.0", Previous: "v1.0.0"}
	byHand := release.Rollout{Version: "v2.0.0", Previous: "v1.0.0", Operator: "root"}
	for name, tt := range map[string]struct {
		in      release.Rollout
		serves  string
		outcome release.Outcome
		verdict string
		trigger release.Trigger
	}{
		"the old version serves: taken back":                      {rollout, "v1.0.0", release.RolledBack, "invalid", release.Crash},
		"the new version serves: promoted":                        {rollout, "v2.0.0", release.Promoted, "pass", ""},
		"nothing serves: taken back":                              {rollout, "", release.RolledBack, "invalid", release.Crash},
		"a rollback by hand whose target serves: done":            {byHand, "v1.0.0", release.RolledBack, "", release.Operator},
		"a rollback by hand that did not get there: not promoted": {byHand, "v2.0.0", release.Refused, "", release.Crash},
	} {
		t.Run(name, func(t *testing.T) {
			got := unfinished(tt.in, tt.serves, time.Now())
			if got.Outcome != tt.outcome || got.Verdict != tt.verdict || got.Trigger != tt.trigger || got.Reason == "" || got.Ended.IsZero() {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestCloseUnfinishedLeavesNoneOpen(t *testing.T) {
	ledger, err := release.OpenLedger(filepath.Join(t.TempDir(), "ledger.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	for i := range 3 {
		if _, err := ledger.Start(release.Rollout{Name: "hello", Version: fmt.Sprintf("v1.%d.0", i), Started: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	if err := closeUnfinished(ledger, &local.Target{}); err != nil {
		t.Fatal(err)
	}
	if open := ledger.Unfinished(); len(open) != 0 {
		t.Errorf("still open: %+v", open)
	}
	var outcomes []release.Outcome
	for _, r := range ledger.Records() {
		outcomes = append(outcomes, r.Outcome)
	}
	if diff := cmp.Diff([]release.Outcome{release.RolledBack, release.RolledBack, release.RolledBack}, outcomes); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
