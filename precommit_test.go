package sluice_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type precommitHook struct {
	ID, Language, Entry, Files, Exclude string
	Types                               []string
	PassFilenames                       *bool `yaml:"pass_filenames"`
}

// of returns the tracked files that pre-commit would give the hook.
func (h precommitHook) of(tracked []string) []string {
	files, exclude := regexp.MustCompile(h.Files), regexp.MustCompile(h.Exclude)
	var list []string
	for _, f := range tracked {
		if files.MatchString(f) && (h.Exclude == "" || !exclude.MatchString(f)) && (len(h.Types) == 0 || strings.HasSuffix(f, ".go")) {
			list = append(list, f)
		}
	}
	return list
}

// sourceFiles are those that git tracks; where it has no index, as in the engine of
// the Dagger module, all but what is made.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("git", "ls-files").Output()
	if err != nil {
		t.Fatal(err)
	}
	if list := strings.Fields(string(out)); len(list) > 0 {
		return list
	}
	var list []string
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == ".git" || path == "out" || path == "bin"):
			return filepath.SkipDir
		case d.Type().IsRegular():
			list = append(list, filepath.ToSlash(path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFilesAreFoundWithoutAnIndex: the Dagger module sends no more of a repository
// than what names its commit.
func TestFilesAreFoundWithoutAnIndex(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		".git/HEAD": strings.Repeat("a", 40) + "\n", ".git/refs/x": "", ".git/objects/x": "", "out/a.go": "", "b/c.go": "", "d.go": "",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if got := sourceFiles(t); !slices.Equal(got, []string{"b/c.go", "d.go"}) {
		t.Errorf("found %q", got)
	}
}

// TestHooksOfPreCommit runs every hook as pre-commit would, on a few files that it
// is for. Of targets of make only the recipe is looked at: `make check` runs them.
func TestHooksOfPreCommit(t *testing.T) {
	raw, err := os.ReadFile(".pre-commit-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Repos []struct{ Hooks []precommitHook }
	}
	if err := yaml.Unmarshal(raw, &config); err != nil {
		t.Fatal(err)
	}
	tracked := sourceFiles(t)
	recipe, err := exec.Command("make", "-n", "check").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, recipe)
	}
	var entries []string
	for _, h := range config.Repos[0].Hooks {
		entries = append(entries, h.Entry)
		t.Run(h.ID, func(t *testing.T) {
			files := h.of(tracked)
			if len(files) == 0 || h.Language != "system" || slices.ContainsFunc(h.Types, func(s string) bool { return s != "go" }) {
				t.Fatalf("%d files, language %q, types %v", len(files), h.Language, h.Types)
			}
			args := strings.Fields(h.Entry)
			if _, err := exec.LookPath(args[0]); err != nil {
				t.Skip(err) // an editor's tool; make check does without
			}
			switch {
			case args[0] == "make":
				args = append([]string{"make", "-n"}, args[1:]...)
			case h.PassFilenames == nil || *h.PassFilenames:
				args = append(args, files[:min(3, len(files))]...)
			}
			if said, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
				t.Errorf("%q: %v\n%s", args, err, said)
			}
		})
	}
	// What check does is done by a hook.
	for _, tool := range []string{"gofumpt", "staticcheck", "actionlint", "go generate"} {
		inHook := slices.ContainsFunc(entries, func(e string) bool {
			if target, ok := strings.CutPrefix(e, "make "); ok {
				out, err := exec.Command("make", "-n", target).Output()
				return err == nil && strings.Contains(string(out), tool)
			}
			return strings.Contains(e, tool)
		})
		if !strings.Contains(string(recipe), tool) || !inHook {
			t.Errorf("%s: part of make check %v, of a hook %v", tool, strings.Contains(string(recipe), tool), inHook)
		}
	}
}
