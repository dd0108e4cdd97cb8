package drift

import (
	"fmt"
	"strings"
	"time"
)

// Report is the result of one look.
type Report struct {
	At          time.Time    `json:"at"`
	Service     string       `json:"service"`
	Namespace   string       `json:"namespace"`
	App         string       `json:"app"`
	Busy        string       `json:"busy,omitempty"` // why not everything was compared
	Differences []Difference `json:"differences"`
}

// NewReport compares a view.
func NewReport(v View) Report {
	return Report{
		At: v.At, Service: v.Service, Namespace: v.Namespace, App: v.App, Busy: v.Busy(),
		Differences: append([]Difference{}, Compare(v)...),
	}
}

// Err is nil if nothing differs and everything is known, else a *DriftError.
func (r Report) Err() error { return found(r.Service, r.Differences) }

// Err is that of what is still open.
func (s Summary) Err(service string) error { return found(service, s.Open) }

func found(service string, list []Difference) error {
	e := &DriftError{Service: service}
	for _, d := range list {
		if d.Kind == Drift {
			e.Drifts++
		} else {
			e.Unknown++
		}
	}
	if e.Drifts+e.Unknown == 0 {
		return nil
	}
	return e
}

// Text is the report for a person.
func (r Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s in %s, Application %s: ", r.Service, r.Namespace, r.App)
	if err := r.Err(); err != nil {
		fmt.Fprintln(&b, strings.TrimPrefix(err.Error(), r.Service+": "))
	} else {
		fmt.Fprintln(&b, "no drift")
	}
	if r.Busy != "" {
		fmt.Fprintf(&b, "  %s: what it moves was not compared\n", r.Busy)
	}
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "  %-7s  %s\n", d.Kind, d)
	}
	return b.String()
}

// String is the difference in one line.
func (d Difference) String() string {
	return fmt.Sprintf("%-6s  %s: want %s, got %s — %s: %s", d.View, d.Where, d.Want, d.Got, d.Mender, d.How)
}

// DriftError means that views differ, or that not all of them are known.
type DriftError struct {
	Service         string
	Drifts, Unknown int
}

func (e *DriftError) Error() string {
	switch {
	case e.Unknown == 0:
		return fmt.Sprintf("%s: %s", e.Service, count(e.Drifts, "difference"))
	case e.Drifts == 0:
		return fmt.Sprintf("%s: no difference found, but %d not known", e.Service, e.Unknown)
	}
	return fmt.Sprintf("%s: %s, %d not known", e.Service, count(e.Drifts, "difference"), e.Unknown)
}

// ExitCode is 1 for drift and 4, no data, if only evidence is missing.
func (e *DriftError) ExitCode() int {
	if e.Drifts > 0 {
		return 1
	}
	return 4
}
