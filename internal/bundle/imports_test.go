package bundle_test

import (
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
)

// imports lists what files import that are no tests.
func imports(t *testing.T, files []string) []string {
	t.Helper()
	var list []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range f.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, path)
		}
	}
	return list
}
