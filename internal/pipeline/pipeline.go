// Package pipeline is the main job: the list of steps from source to a promoted
// or rolled-back release.
//
// The first half makes a release and leaves it, signed, in the out folder; the
// second half takes nothing but that folder, verifies it and rolls it out. So a
// release can be made in one place and deployed in another. This package is
// where the adapters (compiler, Syft, cosign, registry, eBPF, local target)
// meet; none of them knows another.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Step is one line of the list.
type Step interface {
	String() string
	// Run does the step and says in a few words what came of it. A step that
	// has nothing to do returns a Skip.
	Run(ctx context.Context) (summary string, err error)
}

// Ender is a step that leaves the world in order: it runs even if a step before
// it failed or was interrupted, with a context that is not cancelled.
type Ender interface {
	Step
	End(ctx context.Context, failed error) (summary string, err error)
}

// Skip is returned by a step that had nothing to do, with the reason.
type Skip struct{ Reason string }

func (s Skip) Error() string { return "skipped: " + s.Reason }

// StepError names the step that failed.
type StepError struct {
	Step string
	Err  error
}

func (e *StepError) Error() string { return e.Step + ": " + e.Err.Error() }

func (e *StepError) Unwrap() error { return e.Err }

// Event is what happened to one step.
type Event struct {
	Step    string        `json:"step"`
	Status  Status        `json:"status"`
	Summary string        `json:"summary,omitempty"`
	Took    time.Duration `json:"-"`
	Seconds float64       `json:"seconds"`
}

// Status of a step.
type Status string

// The states of a step, in the order in which it goes through them.
const (
	Started Status = "started"
	Done    Status = "done"
	Skipped Status = "skipped"
	Failed  Status = "failed"
)

// Run does the steps in order and reports each. It stops at the first error,
// a *StepError, but for the Enders: those always run once the steps before them
// have been reached.
func Run(ctx context.Context, steps []Step, report func(Event)) error {
	var failed error
	for _, s := range steps {
		ender, always := s.(Ender)
		if failed != nil && !always {
			continue
		}
		begin := time.Now()
		report(Event{Step: s.String(), Status: Started})
		var summary string
		var err error
		if always {
			summary, err = ender.End(context.WithoutCancel(ctx), failed)
		} else if err = ctx.Err(); err == nil {
			summary, err = s.Run(ctx)
		}
		took := time.Since(begin)
		e := Event{Step: s.String(), Status: Done, Summary: summary, Took: took, Seconds: took.Seconds()}
		var skip Skip
		switch {
		case errors.As(err, &skip):
			e.Status, e.Summary = Skipped, skip.Reason
		case err != nil:
			e.Status, e.Summary = Failed, err.Error()
			failed = errors.Join(failed, &StepError{Step: s.String(), Err: err})
		}
		report(e)
	}
	return failed
}

// list joins parts with a separator, leaving out the empty ones.
func list(parts ...string) string {
	out := ""
	for _, p := range parts {
		switch {
		case p == "":
		case out == "":
			out = p
		default:
			out += ", " + p
		}
	}
	return out
}

func bytesText(n int64) string {
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
