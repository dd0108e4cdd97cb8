package policy

import (
	"os"
	"strings"
	"testing"
)

// TestREADME evaluates and tests the example of policies/README.md.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../policies/README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```rego\n")
	if len(blocks) != 3 {
		t.Fatalf("%d Rego blocks in the README; want the rule and its test", len(blocks)-1)
	}
	rule, _, _ := strings.Cut(blocks[1], "```")
	test, _, _ := strings.Cut(blocks[2], "```")
	own := dir(t, "known.rego", rule, "known_test.rego", test)

	denials, err := Evaluate(t.Context(), good(), Options{Dirs: []string{own}})
	if err != nil || len(denials) != 1 || denials[0].Rule != "known_licenses" {
		t.Errorf("denials %v, %v; want one by known_licenses, about stdlib", denials, err)
	}
	results, err := Test(t.Context(), []string{own})
	if err != nil || len(results) != 2 {
		t.Fatalf("%d test results, %v; want 2", len(results), err)
	}
	for _, r := range results {
		if !r.Passed {
			t.Errorf("%s failed: %s", r.Name, r.Output)
		}
	}
}

func TestResultsOfTests(t *testing.T) {
	own := dir(t, "a.rego", "package sluice.a\n\ndeny := set()\n", "a_test.rego", `package sluice.a_test

import data.sluice.a

test_right if count(a.deny) == 0

test_wrong if {
	print("looking at", count(a.deny))
	count(a.deny) == 1
}

todo_test_later if count(a.deny) == 2

test_error if 1 / count(a.deny) == 1
`)
	results, err := Test(t.Context(), []string{own})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		passed bool
		output string
		line   int
	}{
		"sluice.a_test.test_right":      {true, "", 5},
		"sluice.a_test.test_wrong":      {false, "looking at 0", 7},
		"sluice.a_test.todo_test_later": {false, "", 12},
		"sluice.a_test.test_error":      {false, "divide by zero", 14},
	} {
		var found bool
		for _, r := range results {
			if r.Name != name {
				continue
			}
			found = true
			if r.Passed != want.passed || r.Line != want.line || !strings.Contains(r.Output, want.output) {
				t.Errorf("%+v; want %+v", r, want)
			}
		}
		if !found {
			t.Errorf("no result for %s in %v", name, results)
		}
	}
	for name, text := range map[string]string{
		"a syntax error": "package sluice.b_test\n\ntest_x if {",
		"a missing rule": "package sluice.b_test\n\ntest_x if data.sluice.b.other(1)",
	} {
		if _, err := Test(t.Context(), []string{dir(t, "b.rego", "package sluice.b\n\ndeny := set()\n", "b_test.rego", text)}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
