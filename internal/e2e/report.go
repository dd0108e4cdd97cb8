package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// result is what a scenario came to.
type result struct {
	Scenario string `json:"scenario"`
	What     string `json:"what"`
	Verdict  string `json:"verdict,omitempty"`
	Trigger  string `json:"trigger,omitempty"`

	ToVerdict       *float64 `json:"to_verdict_s,omitempty"`        // from the push to the verdict
	BreachToTraffic *float64 `json:"breach_to_traffic_s,omitempty"` // from the first bad answer to traffic moved, by the ledger
	ToQuiet         *float64 `json:"verdict_to_quiet_s,omitempty"`  // from the verdict to the last request that the canary got, by the clients; negative: it was before
	ToFailed        *float64 `json:"verdict_to_failed_sync_s,omitempty"`
	ToSettled       *float64 `json:"verdict_to_settled_s,omitempty"` // Synced and Healthy on the old version

	Sent   uint64 `json:"requests"`
	Failed uint64 `json:"failed"`
	Errors uint64 `json:"errors"` // 5xx
	Late   uint64 `json:"not_sent,omitempty"`

	Took  float64  `json:"took_s"`
	OK    bool     `json:"ok"`
	Wrong string   `json:"wrong,omitempty"`
	Notes []string `json:"notes,omitempty"`

	Drifts []episode `json:"drifts,omitempty"`

	mayFail uint64 // so many answers with 5xx are the release's own
}

// since is a number of seconds for a result.
func since(from, to time.Time) *float64 {
	if from.IsZero() || to.IsZero() {
		return nil
	}
	s := to.Sub(from).Round(10 * time.Millisecond).Seconds()
	return &s
}

// report is everything that was found out.
type report struct {
	mu sync.Mutex

	Machine   string             `json:"machine"`
	Started   time.Time          `json:"started"`
	Figures   map[string]float64 `json:"figures"` // by what they measure, unit included
	Scenarios []result           `json:"scenarios"`
}

// add keeps the result of a scenario, in the order of the list of all.
func (r *report) add(s result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Scenarios = append(r.Scenarios, s)
	place := func(s result) int {
		return slices.IndexFunc(scenarios(), func(sc scenario) bool { return sc.name == s.Scenario })
	}
	slices.SortStableFunc(r.Scenarios, func(a, b result) int { return cmp.Compare(place(a), place(b)) })
}

// figure keeps a number by what it measures, unit included.
func (r *report) figure(what string, value float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Figures[what] = value
}

func (r *report) json(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(r); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// text prints a line for each scenario, the drifts, the figures, and in the end
// all that went wrong.
func (r *report) text(w io.Writer) {
	const form = "%-18s %-13s %8s %9s %9s %9s %9s %9s %9s %7s %6s  %s\n"
	fmt.Fprintf(w, "\n"+form, "SCENARIO", "VERDICT", "TOOK", "PUSH→", "BREACH→", "VERDICT→", "VERDICT→", "VERDICT→", "REQUESTS", "FAILED", "5xx", "")
	fmt.Fprintf(w, form, "", "", "", "VERDICT", "TRAFFIC", "QUIET", "FAILED", "SETTLED", "", "", "", "")
	for _, s := range r.Scenarios {
		ok := "ok"
		if !s.OK {
			ok = "WRONG"
		}
		fmt.Fprintf(w, form, s.Scenario, orDash(s.Verdict), seconds(&s.Took), seconds(s.ToVerdict), seconds(s.BreachToTraffic), seconds(s.ToQuiet), seconds(s.ToFailed),
			seconds(s.ToSettled), fmt.Sprint(s.Sent), fmt.Sprint(s.Failed), fmt.Sprint(s.Errors), ok)
	}
	r.drifts(w)
	fmt.Fprintln(w)
	for _, what := range slices.Sorted(maps.Keys(r.Figures)) {
		fmt.Fprintf(w, "  %-60s %8.2f\n", what, r.Figures[what])
	}
	for _, s := range r.Scenarios {
		if !s.OK {
			fmt.Fprintf(w, "\n%s WRONG: %s\n", s.Scenario, s.Wrong)
		}
	}
	fmt.Fprintf(w, "\n%d of %d scenarios ended as they had to\n", len(r.Scenarios)-r.failed(), len(r.Scenarios))
}

// drifts prints a line for each drift that was made.
func (r *report) drifts(w io.Writer) {
	const form = "%-54s %9s %9s %9s  %s\n"
	head := false
	for _, s := range r.Scenarios {
		for _, d := range s.Drifts {
			if !head {
				fmt.Fprintf(w, "\n"+form, "DRIFT", "SAID", "REPAIRED", "MENDED", "BY")
				head = true
			}
			fmt.Fprintf(w, form, d.What, seconds(d.Said), seconds(d.Repaired), seconds(d.Mended), d.By)
		}
	}
}

// failed counts the scenarios that did not end as they had to.
func (r *report) failed() (n int) {
	for _, s := range r.Scenarios {
		if !s.OK {
			n++
		}
	}
	return n
}

func seconds(s *float64) string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f s", *s)
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// pairs writes a map as the inside of a YAML flow mapping.
func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s: %q", k, m[k]))
	}
	return strings.Join(out, ", ")
}
