package build

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestEnvironOfABuild(t *testing.T) {
	t.Setenv("GOFLAGS", "-race")
	t.Setenv("GOEXPERIMENT", "nonsense")
	t.Setenv("CGO_LDFLAGS", "-static")
	t.Setenv("GODEBUG", "gotypesalias=0")
	t.Setenv("GOMEMLIMIT", "2GiB")
	t.Setenv("HTTPS_PROXY", "http://proxy.example.org")
	env := goEnv{"GOPROXY": "https://mirror.example.org", "GOWORK": "", "GOVERSION": "go1.26.3"}
	got := env.environ(Platform{"linux", "arm", "v6"}, "GOCACHE=/second")
	for name, want := range map[string]string{
		"GOOS": "linux", "GOARCH": "arm", "GOARM": "6", "GOAMD64": "v1", // named, so that no configuration is asked
		"CGO_ENABLED": "0", "GOENV": "off",
		"GOPROXY": "https://mirror.example.org", "GOMEMLIMIT": "2GiB", "HTTPS_PROXY": "http://proxy.example.org",
		"GOCACHE": "/second",
	} {
		if !slices.Contains(got, name+"="+want) {
			t.Errorf("no %s=%s", name, want)
		}
	}
	for _, kv := range got {
		name, _, _ := strings.Cut(kv, "=")
		if slices.Contains([]string{"GOFLAGS", "GOEXPERIMENT", "CGO_LDFLAGS", "GODEBUG", "GOWORK", "GOVERSION"}, name) {
			t.Errorf("%s reaches the go tool", kv)
		}
	}
}

func TestGoEnvErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := readGoEnv(t.Context(), dir+"/none"); err == nil {
		t.Error("no error for a directory that does not exist")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readGoEnv(ctx, dir); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCompileWithTooOldAGo(t *testing.T) {
	_, o := newService(t, map[string]string{"svc/go.mod": "module example.org/svc\n\ngo 9.99\n"})
	t.Setenv("GOTOOLCHAIN", "local")
	var broken *CompileError
	if _, err := Compile(t.Context(), o, nil); !errors.As(err, &broken) || !strings.Contains(err.Error(), "requires go >= 9.99") {
		t.Errorf("got %v", err)
	}
}

func TestHints(t *testing.T) {
	for name, tt := range map[string]struct{ output, want string }{
		"a missing requirement": {"main.go:3:8: no required module provides package x; to add it:", "go mod tidy"},
		"a missing checksum":    {"x@v1: missing go.sum entry for go.mod file", "go mod tidy"},
		"a directory":           {"package app is not in std (/usr/lib/go/src/app)", "./app"},
		"cgo":                   {"build constraints exclude all Go files in /x", "needs cgo"},
		"a plain error":         {"main.go:1:1: undefined: x", ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := &CompileError{Output: tt.output}
			if got := err.Hint(); !strings.Contains(got, tt.want) || tt.want == "" && got != "" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for _, err := range []interface{ Hint() string }{&NoGoError{}, &NoModuleError{}} {
		if err.Hint() == "" {
			t.Errorf("%T has no hint", err)
		}
	}
}

func TestDefaultsOfOptions(t *testing.T) {
	dir, _ := newService(t, nil)
	for name, tt := range map[string]struct{ dir, main, want string }{
		"a directory":           {"svc", "./cmd/hello", "hello"},
		"the module itself":     {"svc", ".", "svc"},
		"an import path":        {"svc", "example.org/svc/cmd/hello", "hello"},
		"an absolute path":      {"svc", dir + "/svc/cmd/hello", "hello"},
		"a path with an ascent": {"svc/cmd", "../tools/gen", "gen"},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := Options{Dir: dir + "/" + tt.dir, Main: tt.main, Version: "v1"}.complete()
			if err != nil || o.Name != tt.want || o.Stamp != "main.version" || len(o.Platforms) != 8 {
				t.Errorf("got %+v, %v", o, err)
			}
		})
	}
}
