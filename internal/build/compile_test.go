package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCompileEveryPlatform(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"go.mod":  "module example.org/tiny\n\ngo 1.24\n",
		"main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
	})
	out := t.TempDir()
	var reported []string
	binaries, err := Compile(t.Context(), Options{Dir: dir, Main: ".", Name: "tiny", Version: "v1.0.0", OutDir: out},
		func(p Platform) { reported = append(reported, p.String()) })
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for i, p := range DefaultPlatforms() {
		b := binaries[i]
		if want := filepath.Join(out, p.Dir(), "tiny"+p.Exe()); b.Path != want || b.Platform != p {
			t.Errorf("got %s at %s, want %s at %s", b.Platform, b.Path, p, want)
		}
		if err := CheckFormat(b.Path, p); err != nil {
			t.Error(err)
		}
		if other := DefaultPlatforms()[(i+1)%8]; CheckFormat(b.Path, other) == nil {
			t.Errorf("%s passes for %s", b.Path, other)
		}
		digest, size, err := Digest(b.Path)
		if err != nil || digest != b.Digest || size != b.SizeBytes || b.UnstrippedBytes != 0 {
			t.Errorf("%+v, but the file has %s, %d bytes, %v", b, digest, size, err)
		}
		dirs = append(dirs, p.Dir())
	}
	slices.Sort(dirs)
	if diff := cmp.Diff(dirs, entries(t, out)); diff != "" {
		t.Errorf("output directory: %s", diff)
	}
	if len(reported) != 8 {
		t.Errorf("reported %v", reported)
	}
}

func TestCompileIgnoresTheCallersGoConfiguration(t *testing.T) {
	_, o := newService(t, map[string]string{
		"svc/cmd/hello/tagged.go": "//go:build unwanted\n\npackage main\n\nfunc init() { panic(\"tag from GOFLAGS\") }\n",
	})
	plain, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), plain[0].Path).Output()
	if want := "v1.2.3 hello text lib\n"; string(out) != want {
		t.Fatalf("got %q, %v, want %q", out, err, want)
	}
	config := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(config, []byte("GOFLAGS=-tags=unwanted\nGOAMD64=v3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOENV", config)
	t.Setenv("GOFLAGS", "-race -buildvcs=true -ldflags=-B=gobuildid")
	t.Setenv("GOOS", "windows")
	t.Setenv("GOARM64", "v9.0")
	t.Setenv("CGO_ENABLED", "1")
	t.Setenv("CGO_CFLAGS", "-nonsense")
	t.Setenv("GO_EXTLINK_ENABLED", "1")
	o.OutDir, o.MeasureUnstripped = t.TempDir(), true
	hostile, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	if hostile[0].Digest != plain[0].Digest {
		t.Errorf("got other bytes: %s, want %s", hostile[0].Digest, plain[0].Digest)
	}
	if hostile[0].UnstrippedBytes <= hostile[0].SizeBytes {
		t.Errorf("unstripped %d bytes, stripped %d", hostile[0].UnstrippedBytes, hostile[0].SizeBytes)
	}
}

func TestCompileFindsTheMainPackage(t *testing.T) {
	workspace := map[string]string{
		"go.work":    "go 1.24\n\nuse (\n\t./svc\n\t./lib\n)\n",
		"svc/go.mod": "module example.org/svc\n\ngo 1.24\n\nrequire example.org/lib v0.0.0\n",
	}
	vendored := map[string]string{
		"svc/vendor/modules.txt": "# example.org/lib v0.0.0 => ../lib\n## explicit; go 1.24\nexample.org/lib\n" +
			"# example.org/lib => ../lib\n",
		"svc/vendor/example.org/lib/lib.go": "package lib\n\nconst Word = \"vendored\"\n",
	}
	for name, tt := range map[string]struct {
		replace        map[string]string
		dir, main, out string
	}{
		"by a directory":                        {nil, "svc", "./cmd/hello", "v1.2.3 hello text lib\n"},
		"by an absolute directory":              {nil, "svc", "/svc/cmd/hello", "v1.2.3 hello text lib\n"},
		"by an import path":                     {nil, "svc", "example.org/svc/cmd/hello", "v1.2.3 hello text lib\n"},
		"from below the module":                 {nil, "svc/cmd", "./hello", "v1.2.3 hello text lib\n"},
		"in the directory itself":               {nil, "svc/cmd/hello", ".", "v1.2.3 hello text lib\n"},
		"in a module below, by a directory":     {nil, "svc", "./tools/gen", "v1.2.3\n"},
		"in a module below, by an import path":  {nil, "svc", "example.org/svc/tools/gen", "v1.2.3\n"},
		"in a module below a plain directory":   {nil, "", "./svc/cmd/hello", "v1.2.3 hello text lib\n"},
		"in a workspace":                        {workspace, "svc", "./cmd/hello", "v1.2.3 hello text lib\n"},
		"in a workspace, from its root by path": {workspace, "", "example.org/svc/cmd/hello", "v1.2.3 hello text lib\n"},
		"with vendored packages":                {vendored, "svc", "./cmd/hello", "v1.2.3 hello text vendored\n"},
	} {
		t.Run(name, func(t *testing.T) {
			root, o := newService(t, tt.replace)
			o.Dir, o.Main = filepath.Join(root, tt.dir), tt.main
			if filepath.IsAbs(tt.main) {
				o.Main = filepath.Join(root, tt.main)
			}
			binaries, err := Compile(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), binaries[0].Path).CombinedOutput()
			if string(out) != tt.out {
				t.Errorf("got %q, %v, want %q", out, err, tt.out)
			}
			o.VerifyCache = sharedCache(t)
			if err := VerifyReproducible(t.Context(), o, binaries); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	as := func(target any) func(error) bool { return func(err error) bool { return errors.As(err, target) } }
	for name, tt := range map[string]struct {
		replace map[string]string
		change  func(*Options)
		is      func(error) bool
		text    string
	}{
		"a syntax error": {
			map[string]string{"svc/cmd/hello/main.go": "package main\n\nfunc main() { x }\n"},
			func(*Options) {},
			as(new(*CompileError)), "cmd/hello/main.go:3:15: undefined: x",
		},
		"an import nobody provides": {
			map[string]string{"svc/cmd/hello/main.go": "package main\n\nimport _ \"example.org/none\"\n\nfunc main() {}\n"},
			func(*Options) {}, as(new(*CompileError)), "example.org/none",
		},
		"a directory without Go files": {
			nil, func(o *Options) { o.Main = "./cmd/hello/data" }, as(new(*CompileError)), "no Go files",
		},
		"a directory written like an import path": {
			nil, func(o *Options) { o.Main = "cmd/hello" }, as(new(*CompileError)), "is not in std",
		},
		"a package that is no command": {
			nil, func(o *Options) { o.Main = "./internal/text" }, as(new(*NotMainError)), "not a main package",
		},
		"a binary over its budget": {
			nil, func(o *Options) { o.BudgetBytes = 1000 }, as(new(*BudgetError)), "over the budget of 1000",
		},
		"a directory that does not exist": {
			nil, func(o *Options) { o.Main = "./none" }, as(new(*OptionError)), "an existing directory",
		},
		"source in no module": {
			nil, func(o *Options) { o.Dir, o.Main = os.TempDir(), "." }, as(new(*NoModuleError)), "no go.mod",
		},
		"a version that would add flags": {
			nil, func(o *Options) { o.Version = "v1 -linkmode=external" }, as(new(*OptionError)), "a version such as",
		},
		"a name that leaves the directory": {
			nil, func(o *Options) { o.Name = "../x" }, as(new(*OptionError)), "plain file name",
		},
		"a stamp that is no variable": {
			nil, func(o *Options) { o.Stamp = "version" }, as(new(*OptionError)), "importpath.variable",
		},
		"a tag with a comma": {
			nil, func(o *Options) { o.Tags = []string{"a,b"} }, as(new(*OptionError)), "build tags",
		},
		"the same platform twice": {
			nil, func(o *Options) { o.Platforms = []Platform{Native(), Native()} }, as(new(*OptionError)), "once",
		},
		"a platform nobody knows": {
			nil, func(o *Options) { o.Platforms = []Platform{{OS: "linux", Arch: "z80"}} },
			as(new(*UnknownPlatformError)), "linux/z80",
		},
		"a machine without Go": {
			nil, func(*Options) { os.Setenv("PATH", "/nonexistent") }, as(new(*NoGoError)), "go tool",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := newService(t, tt.replace)
			t.Setenv("PATH", os.Getenv("PATH")) // restored afterwards
			tt.change(&o)
			_, err := Compile(t.Context(), o, nil)
			if err == nil || !tt.is(err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %T %v, want %q", err, err, tt.text)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %q", err)
			}
			if left := entries(t, o.OutDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFailedCompileKeepsWhatWasThere(t *testing.T) {
	root, o := newService(t, nil)
	before, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	write(t, root, map[string]string{"lib/lib.go": "package lib\n"})
	if _, err := Compile(t.Context(), o, nil); err == nil {
		t.Fatal("compiled without the constant it needs")
	}
	if digest, _, err := Digest(before[0].Path); err != nil || digest != before[0].Digest {
		t.Errorf("got %s, %v, want %s", digest, err, before[0].Digest)
	}
}

func TestCancelledCompileLeavesNothing(t *testing.T) {
	_, o := newService(t, nil)
	stale := filepath.Join(o.OutDir, stagePrefix+"4194399-1", "x") // beyond the largest process id
	write(t, stale, map[string]string{"left": "by a killed process"})
	t.Setenv("GOCACHE", t.TempDir()) // so that it takes long
	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Compile(ctx, o, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("stopped only after %v", took)
	}
	if left := entries(t, o.OutDir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	for _, arg := range commandLines(t) {
		if strings.Contains(arg, o.OutDir) {
			t.Errorf("still running: %s", arg)
		}
	}
}

func commandLines(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		line, _ := os.ReadFile(file) // a process may have ended since
		lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
	}
	return lines
}

func TestCompileErrorIsBounded(t *testing.T) {
	var o output
	for i := range 100_000 {
		fmt.Fprintf(&o, "# package\nfile.go:%d:1: wrong\n", i+1)
	}
	err := &CompileError{Platform: Native(), Output: o.telling()}
	if lines := strings.Split(err.Output, "\n"); len(lines) != tellingLines+1 || lines[0] != "file.go:1:1: wrong" {
		t.Errorf("got %d lines, the first %q", len(lines), lines[0])
	}
	if o.buf.Len() > outputBytes {
		t.Errorf("kept %d bytes", o.buf.Len())
	}
}
