package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestACommitOfAFolderCanBeRecognizedAsItsRevert(t *testing.T) {
	testenv.Need(t, "git")
	server := filepath.Join(t.TempDir(), "shop.git")
	if out, err := exec.Command("git", "init", "-q", "--bare", "-b", "main", server).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r, err := newRepo(t.Context(), filepath.Join(t.TempDir(), "work"), server)
	if err != nil {
		t.Fatal(err)
	}
	commit := func(text, tag string) string {
		t.Helper()
		file := filepath.Join(r.dir, "deploy", "shop", "kustomization.yaml")
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		revision, err := r.push(t.Context(), "Release "+text, tag)
		if err != nil {
			t.Fatal(err)
		}
		return revision
	}
	first, second, third := commit("1.0.0", "v1.0.0"), commit("1.1.0", ""), commit("1.0.0", "")
	for _, tt := range []struct {
		a, b string
		want bool
	}{{first, third, true}, {first, second, false}} {
		if same, err := r.sameTree(t.Context(), "deploy/shop", tt.a, tt.b); err != nil || same != tt.want {
			t.Errorf("%.8s and %.8s the same: %v, %v", tt.a, tt.b, same, err)
		}
	}
	head, message, err := r.head(t.Context())
	if err != nil || head != third || message != "Release 1.0.0" {
		t.Errorf("head %.8s %q, %v", head, message, err)
	}
	if head, err = r.pull(t.Context()); err != nil || head != third {
		t.Errorf("pulled %.8s, %v", head, err)
	}
	if tags, err := r.git(t.Context(), "tag"); err != nil || tags != "v1.0.0" {
		t.Errorf("tags %q, %v", tags, err)
	}
}
