package build

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// service is the source of a main package with an embedded file, a package of
// its own, a library in a neighbouring directory, and a module below it.
var service = map[string]string{
	"svc/go.mod": `module example.org/svc

go 1.24

require example.org/lib v0.0.0

replace example.org/lib => ../lib
`,
	"svc/cmd/hello/main.go": `package main

import (
	_ "embed"
	"os"

	"example.org/lib"
	"example.org/svc/internal/text"
)

var version = "unset"

//go:embed data/*.txt
var greeting string

func main() { os.Stdout.WriteString(version + " " + greeting + text.Word + lib.Word + "\n") }
`,
	"svc/cmd/hello/data/a.txt":         "hello ",
	"svc/cmd/hello/only_windows.go":    "package main\n\nimport _ \"example.org/svc/internal/win\"\n",
	"svc/cmd/hello/main_test.go":       "package main\n",
	"svc/internal/text/text.go":        "package text\n\nconst Word = \"text \"\n",
	"svc/internal/text/README":         "not compiled\n",
	"svc/internal/win/win.go":          "package win\n",
	"svc/internal/unused/unused.go":    "package unused\n",
	"svc/tools/go.mod":                 "module example.org/svc/tools\n\ngo 1.24\n",
	"svc/tools/gen/main.go":            "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
	"lib/go.mod":                       "module example.org/lib\n\ngo 1.24\n",
	"lib/lib.go":                       "package lib\n\nconst Word = \"lib\"\n",
	"lib/unneeded/unneeded.go":         "package unneeded\n",
	"svc/internal/unused/testdata/x.y": "",
}

// write writes files below a new directory, or replaces some there.
func write(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// newService writes the service, with some files replaced, and returns
// options that build it for this machine.
func newService(t testing.TB, replace map[string]string) (dir string, o Options) {
	t.Helper()
	dir = t.TempDir()
	files := maps.Clone(service)
	maps.Copy(files, replace)
	write(t, dir, files)
	return dir, Options{
		Dir: filepath.Join(dir, "svc"), Main: "./cmd/hello", Version: "v1.2.3",
		Platforms: []Platform{Native()}, OutDir: filepath.Join(t.TempDir(), "bin"),
	}
}

// entries lists what is in dir, hidden files too; nothing if there is no dir.
func entries(t testing.TB, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}
