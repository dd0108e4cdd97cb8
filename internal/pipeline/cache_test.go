package pipeline

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// made makes a file through the cache and reports whether that was needed.
func made(t *testing.T, j Job, key string) (hit bool) {
	t.Helper()
	file := filepath.Join(j.Out, "made")
	path, hit, err := cached(j, "step", key, func(p string) []string { return []string{p} }, func() (string, error) {
		return file, os.WriteFile(file, []byte("made with "+key), 0o644)
	})
	if err != nil || path != file {
		t.Fatalf("cached: %q, %v", path, err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "made with "+key {
		t.Fatalf("the file holds %q (%v)", raw, err)
	}
	return hit
}

func TestCached(t *testing.T) {
	for name, tt := range map[string]struct {
		between func(out string) error
		key     string
		hit     bool
	}{
		"nothing changed":             {key: "k", hit: true},
		"another key":                 {key: "other"},
		"the output was changed":      {key: "k", between: func(out string) error { return os.WriteFile(filepath.Join(out, "made"), []byte("x"), 0o644) }},
		"the output was deleted":      {key: "k", between: func(out string) error { return os.Remove(filepath.Join(out, "made")) }},
		"the record was deleted":      {key: "k", between: func(out string) error { return os.RemoveAll(filepath.Join(out, "cache")) }},
		"the record cannot be read":   {key: "k", between: func(out string) error { return os.Truncate(filepath.Join(out, "cache", "v1.0.0", "step.json"), 20) }},
		"another file is beside them": {key: "k", hit: true, between: func(out string) error { return os.WriteFile(filepath.Join(out, "more"), nil, 0o644) }},
	} {
		t.Run(name, func(t *testing.T) {
			j := Job{Out: t.TempDir(), Version: "v1.0.0"}
			if made(t, j, "k") {
				t.Error("a hit before anything was made")
			}
			if tt.between != nil {
				if err := tt.between(j.Out); err != nil {
					t.Fatal(err)
				}
			}
			if hit := made(t, j, tt.key); hit != tt.hit {
				t.Errorf("hit %v, want %v", hit, tt.hit)
			}
			if !made(t, j, tt.key) {
				t.Error("no hit after it was made again")
			}
		})
	}
}

func TestCachedRemembersNoFailure(t *testing.T) {
	j := Job{Out: t.TempDir(), Version: "v1.0.0"}
	broken := errors.New("broken")
	_, _, err := cached(j, "step", "k", func(string) []string { return nil }, func() (string, error) { return "", broken })
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if made(t, j, "k") {
		t.Error("a failure was a hit")
	}
}

func TestCachedVersionsAreApart(t *testing.T) {
	j := Job{Out: t.TempDir(), Version: "v1.0.0"}
	made(t, j, "k")
	j.Version = "v1.1.0"
	if made(t, j, "k") {
		t.Error("a version was taken for another one")
	}
}

func TestWriteFileLeavesNothingHalfWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "taken", "inside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, "taken"), []byte("x")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v (%v)", entries, err)
	}
}
