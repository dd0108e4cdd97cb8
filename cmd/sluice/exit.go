package main

import (
	"context"
	"errors"
	"runtime/debug"
	"syscall"
)

// The exit statuses that are no verdict's.
const (
	exitUsage       = 2
	exitTransient   = 6
	exitInterrupted = 130
)

// saidError is an error that was already shown as the result of a command.
type saidError struct{ error }

func (e saidError) Unwrap() error { return e.error }

// exitCode follows the table in the package comment. An error that names its
// own status wins; what is left is the user's to mend.
func exitCode(ctx context.Context, err error) int {
	var coded interface{ ExitCode() int }
	switch {
	case errors.As(err, &coded):
		return coded.ExitCode()
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, context.DeadlineExceeded):
		return exitTransient
	}
	return exitUsage
}

// hintOf is the advice that comes with an error, if any.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	switch {
	case errors.As(err, &hinted):
		return hinted.Hint()
	case errors.Is(err, syscall.ENOSPC):
		return "free some space, or choose another folder with --out; nothing was lost"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "the local target needs root: run it with sudo; sluice doctor says what is missing"
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
