package hook

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// The exit statuses that are no verdict's, as the command sluice has them.
const (
	exitUsage       = 2
	exitTransient   = 6
	exitInterrupted = 130
)

// Verdict is what a hook came to, and what the hooks after it go by.
type Verdict struct {
	Hook     string          `json:"hook"`
	Service  string          `json:"service"`
	Release  string          `json:"release"`           // its version
	Verdict  string          `json:"verdict"`           // of the gate or of admission; "" if there is none
	Trigger  release.Trigger `json:"trigger,omitempty"` // of a rollback or a refusal
	Reason   string          `json:"reason"`
	Hint     string          `json:"hint,omitempty"`
	Rollout  int             `json:"rollout,omitempty"` // number in the ledger; 0: it has none
	Image    string          `json:"image"`
	Gate     string          `json:"gate,omitempty"`     // digest of the configuration under which the verdict holds
	Revision string          `json:"revision,omitempty"` // of git, that was synced
	// Operation is when the sync began: a verdict of another one counts only
	// through the ledger.
	Operation string          `json:"operation,omitempty"`
	Result    *release.Result `json:"result,omitempty"` // what the ledger gets
	Reverted  string          `json:"reverted,omitempty"`
	At        time.Time       `json:"at"`

	idle  bool  // there was nothing to do
	cause error // why the hook could not do its work
}

// VerdictError is how a hook ends whose release may not go on.
type VerdictError struct{ Verdict Verdict }

func (e *VerdictError) Error() string { return e.Verdict.Word() + ": " + e.Verdict.Reason }

// ExitCode is that of the verdict.
func (e *VerdictError) ExitCode() int { return e.Verdict.ExitCode() }

// Hint is the advice that came with the verdict.
func (e *VerdictError) Hint() string { return e.Verdict.Hint }

// failed reports whether the sync must not go on.
func (v Verdict) failed() bool {
	return v.cause != nil || v.stands()
}

// stands reports whether there is a verdict against the release, whatever went
// wrong besides.
func (v Verdict) stands() bool {
	return v.Verdict != "" && v.Verdict != gate.Pass.String() || v.Trigger != ""
}

// Word is the verdict in one word: that of the gate, "rolled-back" where an
// operator decided, "error" where a hook could not do its work.
func (v Verdict) Word() string {
	switch {
	case v.cause != nil && !v.stands():
		return "error"
	case v.Verdict != "":
		return v.Verdict
	case v.Trigger != "":
		return string(release.RolledBack)
	}
	return "none"
}

// ExitCode is 0 for a pass and where nothing was to be done, 1 fail, 3
// inconclusive, 4 no-data, 5 invalid; what stopped a hook has 2, or 6 if another
// try may succeed, and an interrupt 130.
func (v Verdict) ExitCode() int {
	if v.cause != nil {
		return exitCode(v.cause)
	}
	if !v.failed() {
		return 0
	}
	var o gate.Outcome
	if o.UnmarshalText([]byte(v.Verdict)) != nil || o == gate.Pass {
		return gate.Fail.ExitCode()
	}
	return o.ExitCode()
}

// ExitCode is the exit status of a command that ended with an error.
func ExitCode(ctx context.Context, err error) int {
	if code := exitCode(err); code != exitUsage || ctx.Err() == nil {
		return code
	}
	return exitInterrupted
}

func exitCode(err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &coded):
		return coded.ExitCode()
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case temporary(err), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, context.DeadlineExceeded):
		return exitTransient
	}
	return exitUsage
}

// temporary reports whether an error says of itself that it may go away.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// Sentence is the verdict for a person, in one line.
func (v Verdict) Sentence() string {
	s := fmt.Sprintf("%s %s: %s", v.Service, cmp.Or(v.Release, "?"), v.Word())
	if v.Trigger != "" {
		s += fmt.Sprintf(" (%s)", v.Trigger)
	}
	s += " at " + v.Hook + ": " + apiserver.OneLine(v.Reason)
	if v.Hint != "" && v.failed() {
		s += " — " + apiserver.OneLine(v.Hint)
	}
	if v.Reverted != "" {
		s += "; " + v.Reverted
	}
	return s
}

func (v Verdict) eventReason() string {
	switch {
	case v.cause != nil && !v.stands():
		return "SluiceError"
	case v.failed():
		return "SluiceRolledBack"
	}
	return "SluicePassed"
}

// mostTermination is what Kubernetes keeps of a termination message, in bytes.
const mostTermination = 4096

// termination is the message of a pod that ends: one line of JSON.
func (v Verdict) termination() []byte {
	for limit := 2000; ; limit /= 2 {
		v.Reason, v.Hint = apiserver.Cut(v.Reason, limit), apiserver.Cut(v.Hint, limit/2)
		raw, err := json.Marshal(v)
		if err != nil || len(raw) < mostTermination || limit < 100 {
			return append(raw[:min(len(raw), mostTermination-1)], '\n')
		}
		v.Result = nil
	}
}

// terminate writes the termination message; an empty path has none.
func (v Verdict) terminate(path string) error {
	if path == "" {
		return nil
	}
	if err := os.WriteFile(path, v.termination(), 0o644); err != nil {
		return fmt.Errorf("writing the termination message: %w", err)
	}
	return nil
}

// hintOf is the advice that comes with an error, if any.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// complete fills in what every verdict says alike.
func (h *hook) complete(v Verdict, err error) Verdict {
	v.Hook, v.Service, v.At = h.name, h.service(), h.now().UTC()
	v.Image, v.Release = cmp.Or(v.Image, h.Image), cmp.Or(v.Release, versionOf(h.Image))
	v.Revision, v.Gate, v.Operation = cmp.Or(v.Revision, h.app.revision()), cmp.Or(v.Gate, h.gateDigest()), h.app.operation()
	if err == nil {
		return v
	}
	v.cause = err
	switch text := apiserver.OneLine(err.Error()); {
	case !v.stands():
		v.Reason, v.Hint = err.Error(), hintOf(err)
	case !strings.Contains(apiserver.OneLine(v.Reverted), text):
		v.Reason += "; besides: " + text
	}
	return v
}

// tell says the verdict everywhere that a person may look. Where it cannot be
// said is logged; the exit status says it always.
func (h *hook) tell(ctx context.Context, v Verdict) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), last/2)
	defer cancel()
	if err := v.terminate(h.Termination); err != nil {
		h.say("%v", err)
	}
	if v.idle && v.cause == nil || v.cause != nil && exitCode(v.cause) == exitInterrupted {
		return nil // neither says anything of the release
	}
	errs := []error{h.note(ctx, v), h.event(ctx, v)}
	if h.orAnyTarget() == nil {
		errs = append(errs, h.target.Event(ctx, v.eventReason(), v.Sentence(), v.failed()))
	}
	return errors.Join(errs...)
}
