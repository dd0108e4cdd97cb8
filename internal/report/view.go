package report

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// view is what the template sees: nothing but text, in order.
type view struct {
	Style                    template.CSS
	Name, Version, ID, Class string
	Headline, Done, Reason   string
	Verdict, Meaning, Symbol string
	When                     string
	Figures                  []figure
	Panels                   []panel
	Resolution, Unmeasured   string
	Marks                    []mark // the kinds of moments in the charts, with their names for X
	Odds, PassOdds, Faults   bool   // there is something of the kind in the charts
	Quantiles                []quantileRow
	Arms                     [2]armView
	Checks                   []checkRow
	Events                   []eventRow
	Facts                    []fact
	Signed                   []Signature
	Programs                 []Program
	Recorded, Command        string
}

type (
	figure      struct{ Label, Value, Note string }
	quantileRow struct{ Name, Stable, Canary, Change string }
	armView     struct{ Requests, Errors, Ratio string }
	checkRow    struct{ Name, Outcome, Symbol, Text, Fail, Pass string }
	eventRow    struct{ Offset, Clock, Text, Class string }
	fact        struct{ Name, Value string }
)

// meanings and symbols of the five verdicts; a symbol never stands without its word.
var (
	meanings = map[string]string{
		"pass":         "evidence that the canary is not worse than the tolerance allows",
		"fail":         "evidence that the canary is worse than the tolerance allows, or breaks an objective",
		"inconclusive": "the evidence points neither way",
		"no-data":      "one side served nothing that could be measured",
		"invalid":      "the measurement cannot be trusted",
	}
	symbols = map[string]string{"pass": "✓", "fail": "✕", "inconclusive": "?", "no-data": "∅", "invalid": "!"}
)

func newView(d Data) view {
	r := d.Record
	v := view{
		Style: template.CSS(styleText), Name: r.Name, Version: r.Version, ID: fmt.Sprintf("%04d", r.ID),
		Headline: headline(r), Done: done(r), Reason: r.Reason, Verdict: r.Verdict, Class: r.Verdict,
		Signed: d.Signed, Programs: d.Programs, Recorded: d.Recorded, Command: d.Command,
		When: r.Started.UTC().Format("2 January 2006, 15:04:05 UTC"),
	}
	if v.Verdict == "" && r.Finished() && r.Outcome != release.Promoted {
		v.Class = "invalid"
	}
	v.Meaning, v.Symbol = meanings[v.Verdict], symbols[v.Verdict]
	if v.Reason == "" {
		v.Reason = d.Verdict.Reason
	}
	v.Reason = tight(v.Reason)
	v.Panels, v.Resolution = charts(d)
	for _, p := range v.Panels {
		v.Faults = v.Faults || len(p.Faults) > 0
		v.Odds = v.Odds || len(p.Limits) > 0
		v.PassOdds = v.PassOdds || len(p.Limits) > 1
	}
	if len(v.Panels) > 0 {
		for _, m := range v.Panels[0].Marks {
			v.Marks = append(v.Marks, mark{m.Class, map[string]string{"breach": "first bad answer", "verdict": "verdict"}[m.Class]})
		}
	}
	sum := total(d.Blocks)
	v.Unmeasured = unmeasured(d, sum)
	v.Figures = figures(d)
	v.Arms, v.Quantiles = quantiles(sum)
	v.Checks = checks(d.Verdict)
	v.Events = events(d)
	v.Facts = facts(d)
	return v
}

func headline(r release.Record) string {
	switch {
	case r.Outcome == release.Promoted:
		return r.Version + " was promoted"
	case r.Outcome == release.RolledBack && r.Trigger == release.Operator:
		return r.Version + " was withdrawn"
	case r.Outcome == release.RolledBack:
		return r.Version + " was rolled back"
	case r.Outcome == release.Refused:
		return r.Version + " was refused"
	}
	return r.Version + " has not ended its rollout"
}

// done says what became of the traffic, and why.
func done(r release.Record) string {
	serves := "No version serves."
	if r.Previous != "" {
		serves = r.Previous + " serves."
	}
	switch r.Outcome {
	case release.Promoted:
		return "All new connections go to " + r.Version + "."
	case release.Refused:
		return because(r.Trigger) + "It got no traffic. " + serves
	case release.RolledBack:
		moved := ""
		if ms := r.BreachToTrafficMS; ms != nil {
			moved = fmt.Sprintf("It got no new connection from %s after its first bad answer on. ", duration(time.Duration(*ms)*time.Millisecond))
		}
		return because(r.Trigger) + moved + serves
	}
	return ""
}

func because(t release.Trigger) string {
	switch t {
	case release.SLO:
		return "The gate saw it behave worse. "
	case release.HashMismatch:
		return "What the kernel runs is not what was signed. "
	case release.Signature:
		return "A signature is missing or wrong. "
	case release.Crash:
		return "A process died. "
	case release.Death:
		return "Sluice itself died, which says nothing about it. "
	case release.Environment:
		return "What the rollout needs was missing or was changed, which says nothing about it. "
	case release.Operator:
		return "An operator asked for it. "
	}
	return ""
}

// unmeasured says what the charts cannot show.
func unmeasured(d Data, sum bin) string {
	switch {
	case len(d.Blocks) == 0:
		return "Nothing was measured in this rollout."
	case sum.Arms[stable].Requests == 0 && sum.Arms[canary].Requests == 0:
		return "No request was served while this rollout was measured."
	case sum.Arms[canary].Requests == 0:
		return "The canary served no request, so there is nothing to compare."
	case sum.Arms[stable].Requests == 0:
		return "There was no baseline: the canary is shown alone."
	}
	return ""
}

func figures(d Data) []figure {
	r := d.Record
	out := []figure{{"Requests, stable", count(r.Requests.Stable), ""}, {"Requests, canary", count(r.Requests.Canary), ""}}
	if n := len(d.Evidence); n > 0 {
		last := d.Evidence[n-1]
		out = append(out, figure{"Odds against the canary", odds(last.Odds), "fails at " + odds(1/d.Alpha)})
		if last.PassOdds > 0 {
			out = append(out, figure{"Odds for the canary", odds(last.PassOdds), "passes at " + odds(1/d.Beta)})
		}
	}
	if r.BreachToTrafficMS != nil {
		out = append(out, figure{"Breach to traffic moved", duration(time.Duration(*r.BreachToTrafficMS) * time.Millisecond), "first bad answer → no new connection"})
	}
	if r.Finished() {
		out = append(out, figure{"Rollout took", duration(r.Ended.Sub(r.Started)), ""})
	}
	return out
}

// quantiles compares the arms. A quantile that rests on less than one request
// above it is not shown.
func quantiles(sum bin) (sides [2]armView, rows []quantileRow) {
	for i := range sum.Arms {
		a := &sum.Arms[i]
		sides[i] = armView{count(a.Requests), count(a.Errors), ratio(a.Errors, a.Requests)}
	}
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50", .5}, {"p75", .75}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"p99.9", .999}} {
		row, both := quantileRow{Name: q.name, Change: "–"}, true
		var at [2]time.Duration
		for i, cell := range []*string{&row.Stable, &row.Canary} {
			if *cell = "–"; float64(sum.Arms[i].Latency.Count())*(1-q.q) < 1 {
				both = false
				continue
			}
			at[i] = sum.Arms[i].Latency.Quantile(q.q)
			*cell = duration(at[i])
		}
		if both && at[stable] > 0 {
			row.Change = change(float64(at[canary])/float64(at[stable]) - 1)
		}
		rows = append(rows, row)
	}
	return sides, rows
}

// change writes by how much the canary is slower; less than a bucket's width is nothing.
func change(share float64) string {
	switch {
	case share > 0.03:
		return percent(share) + " slower"
	case share < -0.03:
		return percent(-share) + " faster"
	}
	return "the same"
}

func checks(v gate.Verdict) []checkRow {
	var out []checkRow
	for _, c := range v.Checks {
		out = append(out, checkRow{
			Name: c.Name, Outcome: c.Outcome.String(), Symbol: symbols[c.Outcome.String()], Text: tight(c.Text),
			Fail: odds(c.FailOdds), Pass: odds(c.PassOdds),
		})
	}
	return out
}

// events merges what the caller tells with the weights, the timeline and the
// faults of the measurement.
func events(d Data) []eventRow {
	type happening struct {
		at          time.Time
		text, class string
	}
	r := d.Record
	all := []happening{{r.Started, "rollout of " + r.Version + " started", ""}}
	for i, w := range d.Weights {
		if i > 0 && d.Weights[i-1].Share == w.Share {
			continue
		}
		all = append(all, happening{w.At, "canary weight " + percent(w.Share), ""})
	}
	for i, b := range d.Blocks {
		if b.Fault != "" && (i == 0 || d.Blocks[i-1].Fault != b.Fault) {
			all = append(all, happening{b.Start, "measurement cannot be trusted: " + b.Fault, "invalid"})
		}
	}
	t, moved := r.Timeline, "no new connection goes to the canary any more"
	if r.Outcome == release.Promoted {
		moved = "all new connections go to " + r.Version
	}
	all = append(all, happening{t.Breach, "first bad answer of the canary", "breach"}, happening{t.Evidence, "first evidence against the canary", ""},
		happening{t.Verdict, "verdict: " + r.Verdict, "verdict"}, happening{t.Traffic, moved, "moved"})
	for _, e := range d.Events {
		all = append(all, happening{e.At, e.Text, ""})
	}
	all = append(all, happening{r.Ended, strings.TrimSpace("rollout ended: " + string(r.Outcome)), ""})
	all = slices.DeleteFunc(all, func(h happening) bool { return h.at.IsZero() })
	slices.SortStableFunc(all, func(a, b happening) int { return a.at.Compare(b.at) })
	var out []eventRow
	for _, h := range all {
		out = append(out, eventRow{offset(r.Started, h.at), clock(h.at), h.text, h.class})
	}
	return out
}

// facts lists what was shipped.
func facts(d Data) []fact {
	r := d.Record
	out := []fact{
		{"Release manifest", r.Digest},
		{"Image", r.Image},
		{"eBPF object", r.Object},
		{"Commit", r.Commit},
		{"Environment", r.Env},
		{"Previous version", r.Previous},
		{"Asked for by", r.Operator},
		{"Ledger line", r.Hash},
	}
	if d.Release != nil {
		for _, f := range d.Release.Files() {
			out = append(out, fact{f.Path, "sha256:" + f.SHA256})
		}
	}
	return slices.DeleteFunc(out, func(f fact) bool { return f.Value == "" })
}
