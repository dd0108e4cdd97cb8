// Package sluice_test holds ARCHITECTURE.md against the source.
package sluice_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sluice-cd/sluice/"

func TestArchitectureSaysWhoImportsWhom(t *testing.T) {
	said, is := allowed(t), imports(t)
	for pkg, list := range is {
		if want, ok := said[pkg]; !ok {
			t.Errorf("package %s is missing in ARCHITECTURE.md", pkg)
		} else if !slices.Equal(want, list) {
			t.Errorf("package %s imports %v, ARCHITECTURE.md says %v", pkg, list, want)
		}
	}
	for pkg := range said {
		if _, ok := is[pkg]; !ok {
			t.Errorf("ARCHITECTURE.md names package %s, which does not exist", pkg)
		}
	}
}

// allowed reads the block marked "imports".
func allowed(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(raw), "```imports\n")
	block, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("ARCHITECTURE.md has no block marked imports")
	}
	list := map[string][]string{}
	for line := range strings.Lines(block) {
		pkg, deps, _ := strings.Cut(line, ":")
		list[strings.TrimSpace(pkg)] = strings.Fields(deps)
	}
	return list
}

// imports reads every non-test file of the modules that import one another.
func imports(t *testing.T) map[string][]string {
	t.Helper()
	found := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if path != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "out" || name == "tools" || path == "ci") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(filepath.Dir(path))
		if found[pkg] == nil {
			found[pkg] = map[string]bool{}
		}
		for _, spec := range f.Imports {
			if name, _ := strconv.Unquote(spec.Path.Value); strings.HasPrefix(name, module) {
				found[pkg][strings.TrimPrefix(name, module)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list := map[string][]string{}
	for pkg, set := range found {
		list[pkg] = slices.Sorted(maps.Keys(set))
	}
	return list
}
