package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// copied are the files that the module and this package share.
var copied = map[string][]string{
	"command":    {"command.go", "engine.go", "rollout.go"},
	"toolbox":    {"toolbox.go"},
	"enginetest": {"plan.go", "query.go", "session.go"},
}

func TestTheCopiesAreWhatTheModuleHas(t *testing.T) {
	for pkg, files := range copied {
		for _, name := range files {
			from := filepath.Join("..", "..", "ci", pkg, name)
			same(t, from, filepath.Join(pkg, name), "// Code generated from ci/"+pkg+"/"+name+" (UPDATE=1 go test ./internal/engine). DO NOT EDIT.\n\n")
		}
	}
	same(t, filepath.Join("..", "..", "tools", "setup.sh"), filepath.Join("toolbox", "setup.sh"), "")
}

func same(t *testing.T, from, to, header string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	want := header + string(raw)
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(to, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not %s: UPDATE=1 go test ./internal/engine copies it again", to, from)
	}
}

func TestWhatIsNotSentIsWhatTheModuleLeavesOut(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "ci", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	want := `+ignore=["` + strings.Join(Excluded(), `", "`) + `"`
	if !strings.Contains(string(raw), want) {
		t.Errorf("ci/main.go does not say %s", want)
	}
}
