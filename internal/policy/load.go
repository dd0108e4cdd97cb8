package policy

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sluice-cd/sluice/policies"
)

// maxFileBytes bounds one rule file; hand-written rules are a thousandth of it.
const maxFileBytes = 4 << 20

// LoadError reports a rule file that cannot be used.
type LoadError struct {
	File string
	Line int // 0 when the whole file is meant
	Why  string
	Fix  string
}

// Error gives file:line and the reason.
func (e *LoadError) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("policy %s: %s", e.File, e.Why)
	}
	return fmt.Sprintf("policy %s:%d: %s", e.File, e.Line, e.Why)
}

// Hint says what would be right.
func (e *LoadError) Hint() string { return e.Fix }

// A rule is one package with a deny set.
type rule struct {
	name  string // for people
	query string // Rego reference of the deny set
}

// A ruleSet is everything that takes part in an evaluation.
type ruleSet struct {
	modules map[string]*ast.Module
	rules   []rule
}

const (
	builtinPrefix = "data.sluice.builtin." // packages of the shipped rules
	shippedPrefix = "builtin:"             // in file names, so that no directory of a user has the same
)

// shipped parses the files of package policies once, tests included.
var shipped = sync.OnceValues(func() (map[string]*ast.Module, error) {
	files, err := fs.Glob(policies.FS, "*.rego")
	if err != nil {
		return nil, err
	}
	modules := map[string]*ast.Module{}
	for _, file := range files {
		text, err := fs.ReadFile(policies.FS, file)
		if err != nil {
			return nil, err
		}
		if modules[shippedPrefix+file], err = parse(shippedPrefix+file, text); err != nil {
			return nil, err
		}
	}
	return modules, nil
})

func isTest(path string) bool { return strings.HasSuffix(path, "_test.rego") }

// load collects the shipped rules and those of the directories.
func load(dirs []string) (*ruleSet, error) {
	all, err := loadAll(dirs)
	if err != nil {
		return nil, err
	}
	set := &ruleSet{modules: withoutTests(all)}
	set.rules, err = findRules(set.modules)
	return set, err
}

// loadAll is load with the tests.
func loadAll(dirs []string) (map[string]*ast.Module, error) {
	own, err := shipped()
	if err != nil {
		return nil, err
	}
	all := maps.Clone(own)
	reserved := map[string]bool{}
	for _, module := range own {
		reserved[module.Package.Path.String()] = true
	}
	var errs []error
	for _, dir := range dirs {
		modules, err := readDir(dir)
		errs = append(errs, err)
		for file, module := range modules {
			errs = append(errs, checkModule(file, module, reserved))
			all[file] = module
		}
	}
	return all, errors.Join(errs...)
}

// readDir parses every rule file below dir. A directory without any is an
// error: somebody believes that it protects them.
func readDir(dir string) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	rules := false
	var errs []error
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("reading policies: %w", err)
		}
		if d.IsDir() {
			return nil
		}
		module, err := readFile(path)
		switch {
		case err != nil:
			errs = append(errs, err)
		case module != nil:
			modules[path] = module
			rules = rules || !isTest(path)
		}
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if !rules {
		return nil, &LoadError{File: dir, Why: "no rule in this directory", Fix: "add a .rego file, or take the directory out of the configuration"}
	}
	return modules, nil
}

// readFile parses one file; nil when it is neither a rule nor a test.
func readFile(path string) (*ast.Module, error) {
	switch base := filepath.Base(path); {
	case slices.Contains([]string{"data.json", "data.yaml", "data.yml"}, base):
		return nil, &LoadError{File: path, Why: "data files are not read", Fix: "put the values into the rule, or into the policy section of sluice.yaml"}
	case !strings.HasSuffix(base, ".rego"):
		return nil, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return nil, &LoadError{File: path, Why: fmt.Sprintf("not a regular file of at most %d bytes", maxFileBytes)}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	return parse(path, text)
}

// parse reads one Rego v1 file.
func parse(file string, text []byte) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(file, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, loadErrors(file, err)
	}
	return module, nil
}

// loadErrors gives each problem that OPA found as a LoadError.
func loadErrors(file string, err error) error {
	var list ast.Errors
	var single *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &single):
		list = ast.Errors{single}
	default:
		return &LoadError{File: file, Why: err.Error()}
	}
	var errs []error
	for _, e := range list {
		le := &LoadError{File: file, Why: e.Message}
		if e.Location != nil {
			le.File, le.Line = e.Location.File, e.Location.Row
		}
		if e.Details != nil {
			le.Why += ": " + strings.Join(e.Details.Lines(), " ")
		}
		errs = append(errs, le)
	}
	return errors.Join(errs...)
}
