// Package testenv tells tests what the machine offers.
//
// What is missing skips a test on a laptop and fails it when the environment
// variable CI is "true": a check that silently did not run is worth nothing.
// Only tests import this package.
package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Need goes on only if the program tool is found in PATH.
func Need(t testing.TB, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		missing(t, "needs %s in PATH", tool)
	}
}

// NeedRoot goes on only if the test runs as root.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "needs root")
	}
}

// missing ends the test: as a failure in CI, as a skip elsewhere.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (a failure because CI=true)", reason)
	} else {
		t.Skip(reason)
	}
}
