package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/pipeline"
)

// findings are the single things that an error is about, each with its place. What
// has none of its own is found in the configuration.
func findings(err error, configuration string) []actions.Finding {
	var list []actions.Finding
	var wrong *config.Error
	var denied *pipeline.DeniedError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		for _, p := range wrong.Problems {
			text := p.Text
			if p.Path != "" {
				text = p.Path + ": " + text
			}
			list = append(list, actions.Finding{Rule: "configuration", File: wrong.File, Line: p.Line, Text: text})
		}
	case errors.As(err, &denied):
		for _, d := range denied.Denials {
			list = append(list, actions.Finding{Rule: d.Rule, File: configuration, Text: d.Message, Fix: d.Fix})
		}
	default:
		list = append(list, actions.Finding{Rule: subject(err), File: configuration, Text: err.Error(), Fix: hintOf(err)})
	}
	return list
}

// subject names what an error is about, in a word.
func subject(err error) string {
	var verdict *pipeline.VerdictError
	var step *pipeline.StepError
	switch {
	case errors.As(err, &verdict):
		return "gate"
	case errors.As(err, &step):
		return step.Step
	}
	return "sluice"
}

// annotate shows what went wrong where GitHub shows such things.
func annotate(j *actions.Job, err error) {
	for _, f := range findings(err, "") {
		a := actions.Annotation{Level: actions.Error, Title: "sluice: " + f.Rule, Text: f.Text}
		if f.Line > 0 {
			a.File, a.Line = f.File, f.Line
		}
		if f.Fix != "" {
			a.Text += "\n" + f.Fix
		}
		j.Annotate(a)
	}
}

// writeSARIF writes a log for code scanning; no error makes one that closes the
// alerts of an earlier run.
func writeSARIF(file, configuration string, err error) error {
	f, createErr := os.Create(file)
	if createErr != nil {
		return fmt.Errorf("writing SARIF: %w", createErr)
	}
	writeErr := actions.WriteSARIF(f, version(), findings(err, configuration))
	return cmp.Or(writeErr, f.Close())
}

// publishOutcome hands the result of a command to the steps that follow, and to
// whoever opens the run.
func publishOutcome(j *actions.Job, name string, o Outcome) error {
	if j == nil {
		return nil
	}
	for _, output := range []struct{ name, value string }{
		{"version", o.Version},
		{"outcome", o.Outcome},
		{"verdict", o.Verdict},
		{"trigger", o.Trigger},
		{"reason", o.Reason},
		{"digest", imageDigest(o)},
	} {
		if err := j.Output(output.name, output.value); err != nil {
			return err
		}
	}
	return j.Summarize([]byte(summary(name, o)))
}

func imageDigest(o Outcome) string {
	if o.Image == "" && o.Record != nil {
		return o.Record.Image
	}
	return o.Image
}

// summary is the outcome in Markdown.
func summary(name string, o Outcome) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s %s %s\n\n", actions.Cell(name), actions.Cell(o.Version), cmp.Or(o.Outcome, o.said, "not rolled out"))
	if text := cmp.Or(o.Reason, o.Error); text != "" {
		fmt.Fprintf(&b, "%s\n\n", actions.Cell(text))
	}
	if rec := o.Record; rec != nil {
		fmt.Fprintf(&b, "| verdict | trigger | requests stable | requests canary | breach to traffic back |\n|---|---|---|---|---|\n| %s | %s | %d | %d | %s |\n\n",
			cmp.Or(rec.Verdict, "–"), cmp.Or(string(rec.Trigger), "–"), rec.Requests.Stable, rec.Requests.Canary, milliseconds(rec.BreachToTrafficMS))
	}
	if len(o.Steps) > 0 {
		b.WriteString("| step | | time | |\n|---|---|---|---|\n")
		for _, s := range o.Steps {
			fmt.Fprintf(&b, "| %s | %s | %.1f s | %s |\n", s.Step, s.Status, s.Took.Seconds(), actions.Cell(s.Summary))
		}
		b.WriteString("\n")
	}
	return b.String()
}

func milliseconds(ms *int64) string {
	if ms == nil {
		return "–"
	}
	return (time.Duration(*ms) * time.Millisecond).String()
}
