package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// checkModule refuses a user's module that would never be asked, or that
// would meddle with a shipped one.
func checkModule(file string, module *ast.Module, reserved map[string]bool) error {
	path := module.Package.Path.String()
	name := strings.TrimPrefix(path, "data.")
	problem := func(line int, why, fix string) error {
		return &LoadError{File: file, Line: line, Why: why, Fix: fix}
	}
	row := module.Package.Location.Row
	for taken := range reserved {
		if overlaps(path, taken) || overlaps(path, strings.TrimSuffix(builtinPrefix, ".")) {
			return problem(row, fmt.Sprintf("package %s belongs to the built-in rules", name),
				"rules can only be added: use a package of your own, such as package sluice.mine")
		}
	}
	helper := strings.HasPrefix(path, "data.lib.")
	if !helper && !strings.HasPrefix(path, "data.sluice.") {
		return problem(row, fmt.Sprintf("package %s would never be asked", name),
			"use package sluice.<name> for rules and package lib.<name> for functions they share")
	}
	switch at := definesDeny(module); {
	case at == nil:
		return nil
	case isTest(file):
		return problem(at.Row, "deny in a test file would never be asked", "move it to a file whose name does not end in _test.rego")
	case helper:
		return problem(at.Row, "deny in a lib package would never be asked", "move it to package sluice.<name>")
	}
	return nil
}

// overlaps reports whether one package path contains the other.
func overlaps(a, b string) bool {
	return a == b || strings.HasPrefix(a, b+".") || strings.HasPrefix(b, a+".") ||
		strings.HasPrefix(a, b+"[") || strings.HasPrefix(b, a+"[")
}

// definesDeny gives the place of the first rule that defines deny.
func definesDeny(module *ast.Module) *ast.Location {
	for _, r := range module.Rules {
		if head := r.Head.Ref(); len(head) > 0 && headName(head) == "deny" {
			return r.Loc()
		}
	}
	return nil
}

func headName(ref ast.Ref) string {
	if v, ok := ref[0].Value.(ast.Var); ok {
		return string(v)
	}
	return ""
}

// findRules lists the packages below sluice, each of which must define deny.
func findRules(modules map[string]*ast.Module) ([]rule, error) {
	denies := map[string]bool{}
	first := map[string]string{}
	for file, module := range modules {
		path := module.Package.Path.String()
		if !strings.HasPrefix(path, "data.sluice.") {
			continue
		}
		denies[path] = denies[path] || definesDeny(module) != nil
		if first[path] == "" || file < first[path] {
			first[path] = file
		}
	}
	var rules []rule
	for path, ok := range denies {
		if !ok {
			return nil, &LoadError{
				File: first[path], Why: fmt.Sprintf("package %s does not define deny", strings.TrimPrefix(path, "data.")),
				Fix: "write deny contains {...} if {...}, or use package lib.<name> for functions that rules share",
			}
		}
		name := strings.TrimPrefix(strings.TrimPrefix(path, builtinPrefix), "data.sluice.")
		rules = append(rules, rule{name: name, query: path + ".deny"})
	}
	slices.SortFunc(rules, func(a, b rule) int { return strings.Compare(a.query, b.query) })
	return rules, nil
}
