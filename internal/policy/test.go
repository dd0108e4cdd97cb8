package policy

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/tester"
)

// TestResult is the outcome of one test rule.
type TestResult struct {
	Name   string `json:"name"` // "sluice.mine_test.test_large_file"
	File   string `json:"file"`
	Line   int    `json:"line"`
	Passed bool   `json:"passed"` // a test that is skipped has not passed
	Output string `json:"output"` // the cases of the test, what it printed, or its error
}

// Test runs the test rules in the *_test.rego files of the directories, or
// those of the shipped rules when there is no directory. Tests see the same
// built-in functions and the same input schema as Evaluate, and may import
// data.fixture_test of the shipped tests. No test at all is no error here.
func Test(ctx context.Context, dirs []string) ([]TestResult, error) {
	modules, err := loadAll(dirs)
	if err != nil {
		return nil, err
	}
	if _, err := findRules(withoutTests(modules)); err != nil {
		return nil, err
	}
	compiler, err := Compiler()
	if err != nil {
		return nil, err
	}
	runner := tester.NewRunner().SetCompiler(compiler.WithEnablePrintStatements(true)).
		RaiseBuiltinErrors(true).CapturePrintOutput(true).SetTimeout(DefaultTimeout).SetModules(modules)
	found, err := runner.RunTests(ctx, nil)
	if err != nil {
		return nil, loadErrors("policies", err)
	}
	var results []TestResult
	for r := range found {
		if len(dirs) > 0 && strings.HasPrefix(r.Location.File, shippedPrefix) {
			continue
		}
		results = append(results, testResult(r))
	}
	slices.SortFunc(results, func(a, b TestResult) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Name, b.Name))
	})
	return results, ctx.Err()
}

func testResult(r *tester.Result) TestResult {
	out := TestResult{
		Name:   strings.TrimPrefix(r.Package, "data.") + "." + r.Name,
		File:   r.Location.File,
		Line:   r.Location.Row,
		Passed: r.Pass() && !r.Skip,
		Output: string(r.Output),
	}
	if len(r.SubResults) > 0 {
		out.Output += r.SubResults.String()
	}
	if r.Error != nil {
		out.Output += fmt.Sprintln(r.Error)
	}
	return out
}

func withoutTests(all map[string]*ast.Module) map[string]*ast.Module {
	rules := map[string]*ast.Module{}
	for file, module := range all {
		if !isTest(file) {
			rules[file] = module
		}
	}
	return rules
}
