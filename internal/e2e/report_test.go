package main

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestTheTableNamesWhatWentWrong(t *testing.T) {
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := report{Figures: map[string]float64{"cluster up (s)": 11.3}, Scenarios: []result{
		{Scenario: "healthy", Verdict: "pass", ToVerdict: since(at, at.Add(1500*time.Millisecond)), Sent: 100, OK: true},
		{Scenario: "drift-live", OK: true, Drifts: []episode{{What: "canary scaled", Said: since(at, at.Add(2*time.Second)), By: "a person"}}},
		{Scenario: "slow", Wrong: "the stable version was touched\nmore"},
	}}
	var b strings.Builder
	r.text(&b)
	for _, want := range []string{"healthy", "1.5 s", "slow WRONG: the stable version was touched\nmore", "cluster up (s)", "2 of 3 scenarios ended", "canary scaled", "2.0 s         –         –  a person"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
	if r.failed() != 1 {
		t.Errorf("%d failed:\n%s", r.failed(), b.String())
	}
	b.Reset()
	if err := r.json(&b); err != nil || !strings.Contains(b.String(), `"to_verdict_s": 1.5`) {
		t.Errorf("%v: %s", err, b.String())
	}
	if since(time.Time{}, at) != nil {
		t.Error("a time that did not come has a distance")
	}
}

func TestAnApplicationIsReadAsArgoCDWritesIt(t *testing.T) {
	a := parseApplication(&unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{"sluice.dev/verdict": "fail", "sluice.dev/reason": "slower"}},
		"status": map[string]any{
			"sync": map[string]any{"status": "Synced", "revision": "abc"}, "health": map[string]any{"status": "Healthy"},
			"operationState": map[string]any{
				"phase": "Failed", "message": "hooks failed", "finishedAt": "2026-01-01T12:00:00Z", "syncResult": map[string]any{"revision": "bad"},
			},
			"conditions": []any{map[string]any{"type": "SluiceVerdict", "message": "git was not reverted: Forbidden"}},
		},
	}})
	if !a.done("bad") || a.done("abc") || !a.settled("abc") || a.settled("bad") || a.Finished.IsZero() || a.Verdict != "fail" {
		t.Errorf("read as %+v", a)
	}
	for text, want := range map[string]bool{"forbidden": true, "hooks failed": true, "slower": true, "faster": false} {
		if a.says(text) != want {
			t.Errorf("it says %q: %v", text, !want)
		}
	}
}

func TestResultsAreInTheOrderOfTheList(t *testing.T) {
	r := report{Figures: map[string]float64{}}
	list := scenarios()
	for _, sc := range []scenario{list[5], list[0], list[len(list)-1], list[3]} {
		r.add(result{Scenario: sc.name})
	}
	for i, sc := range []scenario{list[0], list[3], list[5], list[len(list)-1]} {
		if r.Scenarios[i].Scenario != sc.name {
			t.Errorf("%s is in the place of %s", r.Scenarios[i].Scenario, sc.name)
		}
	}
}
