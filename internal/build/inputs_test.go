package build

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestInputs(t *testing.T) {
	for name, tt := range map[string]struct {
		write  map[string]string
		change func(*Options)
		same   bool
	}{
		"nothing":                        {same: true},
		"a test":                         {write: map[string]string{"svc/cmd/hello/main_test.go": "package main // more\n"}, same: true},
		"a package nobody imports":       {write: map[string]string{"svc/internal/unused/unused.go": "package unused // more\n"}, same: true},
		"a file the compiler ignores":    {write: map[string]string{"svc/internal/text/README": "more\n"}, same: true},
		"a module below":                 {write: map[string]string{"svc/tools/gen/main.go": "package main\n"}, same: true},
		"the output directory":           {change: func(o *Options) { o.OutDir = "elsewhere" }, same: true},
		"the main package":               {write: map[string]string{"svc/cmd/hello/more.go": "package main\n"}},
		"a package it imports":           {write: map[string]string{"svc/internal/text/more.go": "package text\n"}},
		"an embedded file":               {write: map[string]string{"svc/cmd/hello/data/a.txt": "hi "}},
		"a file that is embedded too":    {write: map[string]string{"svc/cmd/hello/data/b.txt": "hi "}},
		"a replacement by a directory":   {write: map[string]string{"lib/lib.go": "package lib\n\nconst Word = \"new\"\n"}},
		"go.mod":                         {write: map[string]string{"svc/go.mod": service["svc/go.mod"] + "\n// more\n"}},
		"go.mod of the replacement":      {write: map[string]string{"lib/go.mod": service["lib/go.mod"] + "\n// more\n"}},
		"go.sum":                         {write: map[string]string{"svc/go.sum": "\n"}},
		"go.work":                        {write: map[string]string{"go.work": "go 1.24\n\nuse ./svc\n"}},
		"an assembly file":               {write: map[string]string{"svc/internal/text/x.s": "\n"}},
		"a profile":                      {write: map[string]string{"svc/cmd/hello/default.pgo": "\n"}},
		"what only another OS compiles":  {write: map[string]string{"svc/internal/win/win.go": "package win // more\n"}},
		"a vendored package":             {write: map[string]string{"svc/vendor/modules.txt": "#\n"}},
		"the version":                    {change: func(o *Options) { o.Version = "v1.2.4" }},
		"the tags":                       {change: func(o *Options) { o.Tags = []string{"x"} }},
		"the stamp":                      {change: func(o *Options) { o.Stamp = "main.other" }},
		"the name":                       {change: func(o *Options) { o.Name = "other" }},
		"the platforms":                  {change: func(o *Options) { o.Platforms = append(o.Platforms, Platform{"darwin", "arm64", ""}) }},
		"the budget":                     {change: func(o *Options) { o.BudgetBytes = 1 << 30 }},
		"whether unstripped is measured": {change: func(o *Options) { o.MeasureUnstripped = true }},
	} {
		t.Run(name, func(t *testing.T) {
			root, o := newService(t, nil)
			before, err := Inputs(t.Context(), o)
			if err != nil || !strings.HasPrefix(before, "sha256:") || len(before) != 71 {
				t.Fatalf("got %q, %v", before, err)
			}
			write(t, root, tt.write)
			if tt.change != nil {
				tt.change(&o)
			}
			after, err := Inputs(t.Context(), o)
			if err != nil || (before == after) != tt.same {
				t.Errorf("same is %t, want %t (%v)", before == after, tt.same, err)
			}
		})
	}
}

func TestInputsDoNotDependOnWhereTheCheckoutLies(t *testing.T) {
	_, here := newService(t, nil)
	_, there := newService(t, nil)
	a, errA := Inputs(t.Context(), here)
	b, errB := Inputs(t.Context(), there)
	if errA != nil || errB != nil || a != b {
		t.Errorf("got %s, %v and %s, %v", a, errA, b, errB)
	}
}

// The go tool itself says which files it reads.
func TestSourcesAreThoseOfTheGoTool(t *testing.T) {
	root, o := newService(t, map[string]string{
		"svc/cmd/hello/all.go":         "package main\n\nimport \"embed\"\n\n//go:embed all:tree\nvar tree embed.FS\n",
		"svc/cmd/hello/tree/.h/_x":     "", // embedded because of all:
		"svc/cmd/hello/tree/a/b":       "",
		"svc/internal/text/linux.go":   "//go:build linux\n\npackage text\n",
		"svc/internal/text/tagged.go":  "//go:build special\n\npackage text\n",
		"svc/internal/text/ignored.go": "//go:build ignore\n\npackage main\n",
	})
	o.Tags = []string{"special"}
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	l, err := locate(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	files, err := l.sources()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range files {
		have[f] = true
	}
	for _, p := range DefaultPlatforms() {
		for _, want := range goListFiles(t, o, p) {
			if strings.HasPrefix(want, root) && !have[want] {
				t.Errorf("for %s the go tool reads %s", p, want)
			}
		}
	}
	if extra := filepath.Join(root, "svc/cmd/hello/tree/.h/_x"); !have[extra] {
		t.Errorf("%s is missing in %v", extra, slices.Sorted(maps.Keys(have)))
	}
}

func goListFiles(t *testing.T, o Options, p Platform) []string {
	t.Helper()
	format := `{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .SFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}`
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags=special", "-f", format, o.Main)
	cmd.Dir = o.Dir
	cmd.Env = append(os.Environ(), append(p.env(), "CGO_ENABLED=0")...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return strings.Fields(string(out))
}

// BenchmarkInputs measures the content key of this module's sample service.
func BenchmarkInputs(b *testing.B) {
	o := Options{Dir: "../..", Main: "./app", Version: "v1.0.0"}
	for b.Loop() {
		if _, err := Inputs(b.Context(), o); err != nil {
			b.Fatal(err)
		}
	}
}
