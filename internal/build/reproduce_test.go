package build

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	cacheOnce sync.Once
	cacheDir  string
)

// sharedCache is the second build cache of all tests: cold once, then warm.
func sharedCache(t *testing.T) string {
	t.Helper()
	cacheOnce.Do(func() {
		var err error
		if cacheDir, err = os.MkdirTemp("", "sluice-test-cache-"); err != nil {
			t.Fatal(err)
		}
	})
	return cacheDir
}

func TestMain(m *testing.M) {
	code := m.Run()
	if cacheDir != "" {
		os.RemoveAll(cacheDir)
	}
	os.Exit(code)
}

func TestVerifyReproducibleFinds(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, root string, b *Binary)
		cause string
	}{
		"an embedded file that changes with every build": {func(t *testing.T, root string, _ *Binary) {
			write(t, root, map[string]string{"svc/cmd/hello/data/a.txt": "hallo "})
		}, "data/a.txt was changed after the binary was built"},
		"a source that changes with every build": {func(t *testing.T, root string, _ *Binary) {
			write(t, root, map[string]string{"lib/lib.go": "package lib\n\nconst Word = \"another\"\n"})
		}, "lib/lib.go was changed after the binary was built"},
		"a binary that was tampered with": {func(t *testing.T, _ string, b *Binary) {
			tamper(t, b.Path)
		}, "the binary was changed after it was built"},
		"a tampered binary whose digest was corrected": {func(t *testing.T, _ string, b *Binary) {
			tamper(t, b.Path)
			b.Digest, b.SizeBytes, _ = Digest(b.Path)
		}, "a source or embedded file changed, or the compiler"},
		"another Go version": {func(t *testing.T, _ string, b *Binary) {
			replaceBytes(t, b.Path, "\xff Go buildinf:", "\xff Go buildinf;")
			b.Digest = ""
		}, "a source or embedded file changed"},
	} {
		t.Run(name, func(t *testing.T) {
			root, o := newService(t, nil)
			o.VerifyCache = sharedCache(t)
			binaries, err := Compile(t.Context(), o, nil)
			if err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, root, &binaries[0])
			err = VerifyReproducible(t.Context(), o, binaries)
			var mismatch *NotReproducibleError
			if !errors.As(err, &mismatch) || !strings.Contains(mismatch.Cause, tt.cause) {
				t.Fatalf("got %v, want the cause %q", err, tt.cause)
			}
			if mismatch.Path != binaries[0].Path || mismatch.Offset <= 0 || mismatch.Section == "" {
				t.Errorf("got %+v", mismatch)
			}
		})
	}
}

// tamper changes one byte of the program's code.
func tamper(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/3] ^= 1
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

func replaceBytes(t *testing.T, path, from, to string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(data), from) {
		t.Fatalf("%s does not hold %q (%v)", path, from, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(data), from, to, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyReproducibleSaysWhatCannotBeBuilt(t *testing.T) {
	root, o := newService(t, nil)
	binaries, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.VerifyCache = sharedCache(t)
	write(t, root, map[string]string{"lib/lib.go": "package lib\n"})
	var broken *CompileError
	if err := VerifyReproducible(t.Context(), o, binaries); !errors.As(err, &broken) {
		t.Errorf("got %v, want a *CompileError", err)
	}
	var option *OptionError
	if err := VerifyReproducible(t.Context(), o, nil); !errors.As(err, &option) {
		t.Errorf("got %v, want an *OptionError", err)
	}
}

func TestVerifyReproducibleRemovesItsCopy(t *testing.T) {
	tmp := t.TempDir()
	_, o := newService(t, nil)
	binaries, err := Compile(t.Context(), o, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.VerifyCache = sharedCache(t)
	t.Setenv("TMPDIR", tmp)
	if err := VerifyReproducible(t.Context(), o, binaries); err != nil {
		t.Fatal(err)
	}
	if left := entries(t, tmp); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFirstDifference(t *testing.T) {
	for name, tt := range map[string]struct {
		a, b string
		want int
	}{
		"in the first byte":  {"a", "b", 0},
		"in the middle":      {"abc", "axc", 1},
		"one is longer":      {"abc", "abcd", 3},
		"one has no content": {"", "abcd", 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := firstDifference([]byte(tt.a), []byte(tt.b)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCommonDir(t *testing.T) {
	root := string(filepath.Separator)
	for name, tt := range map[string]struct {
		files []string
		want  string
	}{
		"one file":            {[]string{"/a/b/c"}, "/a/b"},
		"neighbours":          {[]string{"/a/b/c", "/a/bc/d"}, "/a"},
		"one above the other": {[]string{"/a/b/c/d", "/a/b/x"}, "/a/b"},
		"nothing in common":   {[]string{"/a/b", "/c/d"}, root},
	} {
		t.Run(name, func(t *testing.T) {
			if got := commonDir(tt.files); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
