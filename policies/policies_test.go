package policies_test

import (
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/format"

	"github.com/sluice-cd/sluice/internal/policy"
	"github.com/sluice-cd/sluice/policies"
)

// TestRego runs every test rule of this directory, as opa test would, and
// demands that each rule file has some.
func TestRego(t *testing.T) {
	results, err := policy.Test(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]int{}
	for _, result := range results {
		ran[strings.TrimPrefix(result.File, "builtin:")]++
		if !result.Passed {
			t.Errorf("%s:%d: %s failed\n%s", result.File, result.Line, result.Name, result.Output)
		}
	}
	for _, file := range regoFiles(t) {
		if test := strings.TrimSuffix(file, ".rego") + "_test.rego"; isRule(file) && ran[test] == 0 {
			t.Errorf("%s: no test ran; want some in %s", file, test)
		}
	}
}

// isRule leaves out tests and the helpers that every rule's test covers.
func isRule(file string) bool {
	return !strings.HasSuffix(file, "_test.rego") && file != "location.rego" && file != "cyclonedx.rego"
}

func TestRegoIsFormatted(t *testing.T) {
	for _, file := range regoFiles(t) {
		text, err := fs.ReadFile(policies.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		want, err := format.SourceWithOpts(file, text, format.Opts{RegoVersion: ast.RegoV1})
		if err != nil {
			t.Fatal(err)
		}
		if string(want) == string(text) {
			continue
		}
		if os.Getenv("UPDATE") == "" {
			t.Errorf("%s is not formatted as opa fmt does; UPDATE=1 rewrites it", file)
		} else if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func regoFiles(t *testing.T) []string {
	t.Helper()
	files, err := fs.Glob(policies.FS, "*.rego")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Rego files embedded: %v", err)
	}
	return files
}
