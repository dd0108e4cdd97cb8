// Package policy decides by Rego whether a release may go out.
//
// The rules of package policies always apply; a user's directories add to
// them and cannot change them. Everything that is not a clear answer is an
// error, and an error means no: a rule that does not compile, divides by zero,
// is undefined, runs too long or asks for a field that does not exist. Rules
// see their input, the data of the configuration and the time they are given;
// they reach no network, no environment and no randomness, so that the same
// release gets the same answer again.
//
// What the input says (signed or not, which digest) is for the caller to have
// verified.
package policy

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// DefaultTimeout bounds an evaluation when Options.Timeout is zero.
const DefaultTimeout = 10 * time.Second

// Input is the document that the rules see as input. The JSON names are the
// Rego names; policies/README.md describes every field.
type Input struct {
	Release   Release    `json:"release"`
	Artifacts []Artifact `json:"artifacts"`
	Object    Object     `json:"object"`
	Image     Image      `json:"image"`
}

// Release names what is to be released.
type Release struct {
	Name    string `json:"name"`
	Version string `json:"version"` // SemVer 2.0.0, a leading v is accepted
	Commit  string `json:"commit"`
	Running string `json:"running"` // the version that runs now, "" for none
}

// Artifact is one binary of the release.
type Artifact struct {
	Platform    string          `json:"platform"`
	Path        string          `json:"path"`
	SHA256      string          `json:"sha256"` // hex, with or without "sha256:"
	SizeBytes   int64           `json:"size_bytes"`
	BudgetBytes int64           `json:"budget_bytes"` // 0 for no budget
	Signed      bool            `json:"signed"`       // a signature by the release key was verified
	SBOM        json.RawMessage `json:"sbom"`         // CycloneDX JSON
	SBOMSigned  bool            `json:"sbom_signed"`
}

// Object is the compiled eBPF object of the release.
type Object struct {
	Path       string          `json:"path"`
	SHA256     string          `json:"sha256"`
	Signed     bool            `json:"signed"`
	SBOM       json.RawMessage `json:"sbom"`
	SBOMSigned bool            `json:"sbom_signed"`
}

// Image is the container image of the release. A release without a Linux
// platform has none; its Digest is then empty.
type Image struct {
	Digest string `json:"digest"`
	Signed bool   `json:"signed"`
}

// Options adds to the built-in rules. The zero value evaluates those alone.
type Options struct {
	Dirs    []string       // directories with rules of one's own, searched recursively
	Data    map[string]any // the data document: {"denied": {"packages": [...], "licenses": [...]}}
	Timeout time.Duration  // 0 means DefaultTimeout
	Now     time.Time      // what time.now_ns() answers; zero means the clock
}

// Denial is one reason why the release may not go out.
type Denial struct {
	Rule    string `json:"rule"`    // "denied_package"; for a user's rule its package below sluice
	Message string `json:"message"` // what is wrong
	Input   string `json:"input"`   // which artifact, file or field
	Fix     string `json:"fix"`     // what would make it right
}

// String gives the denial as one line.
func (d Denial) String() string {
	return fmt.Sprintf("%s: %s: %s", d.Rule, d.Input, d.Message)
}

// RuleError reports a rule that gave no usable answer.
type RuleError struct {
	Rule string
	Err  error
}

// Error names the rule and what went wrong.
func (e *RuleError) Error() string { return fmt.Sprintf("policy rule %s: %v", e.Rule, e.Err) }

// Unwrap gives the cause.
func (e *RuleError) Unwrap() error { return e.Err }

// ErrTimeout means that the rules took longer than they may.
var ErrTimeout = errors.New("policy evaluation took too long")

// Evaluate asks every rule about the release and returns what they object to,
// sorted and without duplicates; an empty list permits the release. A non-nil
// error denies it: *LoadError for a rule file that cannot be used, *RuleError
// for a rule without an answer, ErrTimeout, or the error of ctx.
func Evaluate(ctx context.Context, in Input, opts Options) ([]Denial, error) {
	limited, cancel := context.WithTimeoutCause(ctx, cmp.Or(opts.Timeout, DefaultTimeout), ErrTimeout)
	defer cancel()
	type answer struct {
		denials []Denial
		err     error
	}
	done := make(chan answer, 1)
	// Parsing and some built-ins do not look at the context; the limit holds
	// all the same because nobody waits for them.
	go func() {
		denials, err := evaluate(limited, in, opts)
		done <- answer{denials, err}
	}()
	select {
	case a := <-done:
		if limited.Err() != nil {
			return nil, fmt.Errorf("evaluating policies: %w", context.Cause(limited))
		}
		return a.denials, a.err
	case <-limited.Done():
		return nil, fmt.Errorf("evaluating policies: %w", context.Cause(limited))
	}
}

func evaluate(ctx context.Context, in Input, opts Options) ([]Denial, error) {
	set, err := load(opts.Dirs)
	if err != nil {
		return nil, err
	}
	run, err := prepare(ctx, set, in, opts)
	if err != nil {
		return nil, err
	}
	var all []Denial
	var errs []error
	for _, rule := range set.rules {
		denials, err := run.ask(ctx, rule)
		if err != nil {
			errs = append(errs, &RuleError{Rule: rule.name, Err: err})
		}
		all = append(all, denials...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Denial) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Input, b.Input),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Fix, b.Fix))
	})
	return slices.Compact(all), nil
}
