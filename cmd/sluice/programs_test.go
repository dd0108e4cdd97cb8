package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// raced are the scripts that run under the race detector when the tests do: a
// build for two platforms at once, and a rollout under load that is taken back.
// The others show what a user sees; with it they take five times the processor
// time.
var raced = []string{"build", "fail"}

// programs are the builds of sluice that scripts may run.
type programs struct {
	tested string // this test binary
	plain  string // the same without the race detector
}

// findPrograms builds sluice when this test binary is not what most scripts
// should run.
func findPrograms(t *testing.T) programs {
	t.Helper()
	tested, err := exec.LookPath("sluice")
	if err != nil {
		t.Fatal(err)
	}
	if bin := os.Getenv("SLUICE_BIN"); bin != "" {
		other := filepath.Join(bin, "sluice")
		return programs{other, other}
	}
	// For the script that gives up its privileges.
	if err := os.Chmod(filepath.Dir(filepath.Dir(tested)), 0o755); err != nil {
		t.Fatal(err)
	}
	if !raceDetector {
		return programs{tested, tested}
	}
	plain := filepath.Join(filepath.Dir(filepath.Dir(tested)), "plain", "sluice")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", plain, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building sluice: %v\n%s", err, out)
	}
	return programs{tested, plain}
}

// of is the build that a script runs.
func (p programs) of(env *testscript.Env) string {
	if slices.Contains(raced, strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")) {
		return p.tested
	}
	return p.plain
}

// TestRacedScriptsExist keeps the list from naming what is gone.
func TestRacedScriptsExist(t *testing.T) {
	for _, name := range raced {
		if !exists(filepath.Join("testdata", name+".txtar")) {
			t.Errorf("there is no script %s", name)
		}
	}
}
