package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
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
	Machine   string             `json:"machine"`
	Started   time.Time          `json:"started"`
	Figures   map[string]float64 `json:"figures"` // by what they measure, unit included
	Scenarios []result           `json:"scenarios"`
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

// table prints a line for each scenario, and the figures.
func (r *report) table(w io.Writer) {
	const form = "%-34s %-13s %9s %9s %9s %9s %9s %8s %7s %6s  %s\n"
	fmt.Fprintf(w, "\n"+form, "SCENARIO", "VERDICT", "→VERDICT", "BREACH→", "VERDICT→", "VERDICT→", "VERDICT→", "REQUESTS", "FAILED", "5xx", "OK")
	fmt.Fprintf(w, form, "", "", "", "TRAFFIC", "QUIET", "FAILED", "SETTLED", "", "", "", "")
	for _, s := range r.Scenarios {
		ok := "ok"
		if !s.OK {
			ok = "WRONG: " + firstLine(s.Wrong)
		}
		fmt.Fprintf(w, form, s.Scenario, orDash(s.Verdict), seconds(s.ToVerdict), seconds(s.BreachToTraffic), seconds(s.ToQuiet), seconds(s.ToFailed),
			seconds(s.ToSettled), fmt.Sprint(s.Sent), fmt.Sprint(s.Failed), fmt.Sprint(s.Errors), ok)
	}
	fmt.Fprintln(w)
	for _, what := range slices.Sorted(maps.Keys(r.Figures)) {
		fmt.Fprintf(w, "  %-60s %8.2f\n", what, r.Figures[what])
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

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// pairs writes a map as the inside of a YAML flow mapping.
func pairs(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s: %q", k, m[k]))
	}
	return strings.Join(out, ", ")
}
