package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/pack"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sandbox"
	"github.com/sluice-cd/sluice/internal/sign"
)

// The exit statuses that are no verdict's.
const (
	exitUsage       = 2
	exitTransient   = 6
	exitInterrupted = 130
)

// exitCode follows the table in the package comment. An error that names its
// own status wins; what is left is the user's to mend.
func exitCode(ctx context.Context, err error) int {
	var coded interface{ ExitCode() int }
	var program *exec.ExitError // has an ExitCode, which is not ours
	switch {
	case errors.As(err, &coded) && !errors.As(err, &program):
		return coded.ExitCode()
	case ctx.Err() != nil:
		return exitInterrupted
	case diskFull(err):
		return exitTransient
	case untrusted(err):
		return gate.Invalid.ExitCode()
	case unfit(err):
		return gate.Fail.ExitCode()
	case temporary(err):
		return exitTransient
	}
	return exitUsage
}

// untrusted reports that something is not what was signed or recorded.
func untrusted(err error) bool {
	return is[*sign.VerifyError](err) || is[*release.MismatchError](err) || is[*release.CorruptError](err) || is[*image.DigestError](err) ||
		is[*local.DigestError](err) || is[*bpf.DigestError](err) || is[*bpf.MismatchError](err) || is[*pack.ChangedError](err) ||
		is[*objects.JournalError](err)
}

// unfit reports that a release is to blame, whatever it is tried on.
func unfit(err error) bool {
	return is[*build.BudgetError](err) || is[*build.NotReproducibleError](err) || is[*local.StartError](err) ||
		is[*sandbox.NotReadyError](err) || is[*sandbox.ExitError](err)
}

// temporary reports that the same command may succeed later.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	if errors.As(err, &t) && t.Temporary() {
		return true
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, context.DeadlineExceeded)
}

// diskFull reports that there is no room, also for a compiler that was started.
func diskFull(err error) bool {
	var compile *build.CompileError
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) ||
		errors.As(err, &compile) && strings.Contains(compile.Output, syscall.ENOSPC.Error())
}

func is[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// message is what went wrong, every line of it marked as ours.
func message(err error) string {
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "sluice: %s\n", strings.TrimSuffix(line, "\n"))
	}
	return b.String()
}

// hintOf is the advice that comes with an error, if any.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		return hinted.Hint()
	}
	switch {
	case diskFull(err):
		return "free some space, or choose another folder with --out; nothing was lost"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "the target local needs root: run it with sudo; sluice doctor says what is missing"
	}
	return ""
}

// version is that of this build of sluice.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
