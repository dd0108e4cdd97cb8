package policy

import (
	"errors"
	"fmt"
	"io/fs"
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

const builtinPrefix = "data.sluice.builtin."

// builtins parses the shipped rules once.
var builtins = sync.OnceValues(func() (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
	err := fs.WalkDir(policies.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isRule(path) {
			return err
		}
		text, err := fs.ReadFile(policies.FS, path)
		if err != nil {
			return err
		}
		modules["builtin/"+path], err = parse("builtin/"+path, text)
		return err
	})
	return modules, err
})

func isRule(path string) bool {
	return strings.HasSuffix(path, ".rego") && !isTest(path)
}

func isTest(path string) bool { return strings.HasSuffix(path, "_test.rego") }

// load collects the shipped rules and those of the directories.
func load(dirs []string) (*ruleSet, error) {
	shipped, err := builtins()
	if err != nil {
		return nil, err
	}
	set := &ruleSet{modules: map[string]*ast.Module{}}
	reserved := map[string]bool{}
	for file, module := range shipped {
		set.modules[file] = module
		reserved[module.Package.Path.String()] = true
	}
	var errs []error
	for _, dir := range dirs {
		modules, err := readDir(dir)
		errs = append(errs, err)
		for file, module := range modules {
			errs = append(errs, checkPackage(file, module, reserved))
			set.modules[file] = module
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	set.rules, err = findRules(set.modules)
	return set, err
}

// readDir parses every rule file below dir. A directory without any is an
// error: somebody believes that it protects them.
func readDir(dir string) (map[string]*ast.Module, error) {
	modules := map[string]*ast.Module{}
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
		case module != nil && !isTest(path):
			modules[path] = module
		}
		return nil
	})
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	if len(modules) == 0 {
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
	module, err := parse(path, text)
	if err == nil && isTest(path) {
		err = checkTest(path, module)
	}
	return module, err
}

// parse reads one Rego v1 file.
func parse(file string, text []byte) (*ast.Module, error) {
	module, err := ast.ParseModuleWithOpts(file, string(text), ast.ParserOptions{RegoVersion: ast.RegoV1})
	if err != nil {
		return nil, loadErrors(file, err)
	}
	if module == nil {
		return nil, &LoadError{File: file, Why: "the file is empty", Fix: "start it with a package line, such as package sluice.mine"}
	}
	return module, nil
}

// loadErrors gives each problem that OPA found as a LoadError.
func loadErrors(file string, err error) error {
	var list ast.Errors
	if !errors.As(err, &list) {
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
