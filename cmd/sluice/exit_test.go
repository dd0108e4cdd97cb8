package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

func TestExitStatus(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		err  error
		want int
	}{
		"a failed verdict":                        {err: &pipeline.VerdictError{Outcome: gate.Fail}, want: 1},
		"thin evidence":                           {err: &pipeline.VerdictError{Outcome: gate.Inconclusive}, want: 3},
		"no data":                                 {err: &pipeline.VerdictError{Outcome: gate.NoData}, want: 4},
		"an untrusted measurement":                {err: &pipeline.VerdictError{Outcome: gate.Invalid}, want: 5},
		"an interrupt during the gate":            {ctx: cancelled, err: &pipeline.VerdictError{Trigger: canary.Operator}, want: 130},
		"an interrupt before":                     {ctx: cancelled, err: &pipeline.StepError{Step: "build", Err: context.Canceled}, want: 130},
		"a refused signature":                     {err: &pipeline.RefusedError{Trigger: canary.Signature, Err: errors.New("x")}, want: 5},
		"a denial":                                {err: &pipeline.RefusedError{Err: &pipeline.DeniedError{}}, want: 1},
		"a wrong signature":                       {err: &sign.VerifyError{Err: errors.New("x")}, want: 5},
		"a wrong passphrase":                      {err: &sign.PassphraseError{}, want: 2},
		"a file that is not the released one":     {err: &release.MismatchError{}, want: 5},
		"a ledger that was changed":               {err: &release.CorruptError{}, want: 5},
		"a blob that was changed":                 {err: &image.DigestError{}, want: 5},
		"a probe object that was changed":         {err: &bpf.DigestError{}, want: 5},
		"a process that is not the released one":  {err: &local.DigestError{}, want: 5},
		"a binary over its budget":                {err: &build.BudgetError{}, want: 1},
		"a build that cannot be reproduced":       {err: &build.NotReproducibleError{}, want: 1},
		"source that does not compile":            {err: &build.CompileError{Output: "main.go:1: no"}, want: 2},
		"a compiler on a full disk":               {err: &build.CompileError{Output: "write: no space left on device"}, want: 6},
		"a service that never gets healthy":       {err: &local.StartError{Err: context.DeadlineExceeded}, want: 1},
		"a configuration":                         {err: &config.Error{}, want: 2},
		"a port in use":                           {err: &local.PortError{Err: syscall.EADDRINUSE}, want: 2},
		"another sluice":                          {err: &local.LockedError{}, want: 2},
		"no root":                                 {err: &pipeline.NotRootError{}, want: 2},
		"a full disk":                             {err: &release.FullError{Err: syscall.ENOSPC}, want: 6},
		"a registry that is down":                 {err: &image.RegistryError{Err: syscall.ECONNREFUSED}, want: 6},
		"a registry that is unwilling":            {err: &image.RegistryError{Err: errors.New("denied")}, want: 2},
		"requests without answer":                 {err: failedRequests{}, want: 1},
		"the first of two counts, the verdict's":  {err: errors.Join(&pipeline.VerdictError{Outcome: gate.Fail}, syscall.ENOSPC), want: 1},
		"anything else is the user's to mend":     {err: errors.New("what?"), want: 2},
		"a wrapped error is what it is inside of": {err: &pipeline.StepError{Step: "load", Err: fmt.Errorf("verifying: %w", &release.MismatchError{})}, want: 5},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := tt.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			if got := exitCode(ctx, tt.err); got != tt.want {
				t.Errorf("exit status %d, want %d", got, tt.want)
			}
		})
	}
}

func TestEveryLineOfAMessageIsMarked(t *testing.T) {
	for want, err := range map[string]error{
		"sluice: x\n":                                        errors.New("x"),
		"sluice: gate: x\nsluice: record: y\n":               errors.Join(errors.New("gate: x"), errors.New("record: y")),
		"sluice: build: interrupted\n":                       &pipeline.StepError{Step: "build", Err: context.Canceled},
		"sluice: interrupted by the operator\n":              &pipeline.VerdictError{Trigger: canary.Operator, Reason: "interrupted by the operator"},
		"sluice: fail: latency\n":                            &pipeline.VerdictError{Outcome: gate.Fail, Reason: "latency"},
		"sluice: a.yaml:1: name: no\nsluice: a.yaml:2: no\n": &config.Error{File: "a.yaml", Problems: []config.Problem{{Line: 1, Path: "name", Text: "no"}, {Line: 2, Text: "no"}}},
	} {
		if got := message(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestHints(t *testing.T) {
	for name, tt := range map[string]struct {
		err  error
		want string // the beginning
	}{
		"an error that has one":        {&local.LockedError{}, "wait for it to end"},
		"a full disk":                  {fmt.Errorf("writing: %w", syscall.ENOSPC), "free some space"},
		"a compiler on a full disk":    {&build.CompileError{Output: "no space left on device"}, "free some space"},
		"a right that is lacking":      {fmt.Errorf("opening: %w", syscall.EPERM), "the target local needs root"},
		"an error that has none":       {errors.New("what?"), ""},
		"one that is empty is no hint": {&build.CompileError{Output: "main.go:1: no"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := hintOf(tt.err)
			if !strings.HasPrefix(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestHelp: every command says what it is for and shows how it is used.
func TestHelp(t *testing.T) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || !strings.Contains(c.Example, "  sluice "+strings.TrimPrefix(c.CommandPath(), "sluice ")) && c.HasParent() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no purpose, or no example that uses it:\n%s", c.CommandPath(), c.Example)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(rootCommand())
}
