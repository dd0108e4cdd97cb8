package bpf_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestWhatIsGeneratedIsCommitted compiles everything in a copy of the folder and
// compares it with what is committed, byte by byte.
func TestWhatIsGeneratedIsCommitted(t *testing.T) {
	testenv.Need(t, "clang-19")
	testenv.Need(t, "llvm-strip-19")
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, folder := range []string{"bpf", "internal/histogram"} {
		if err := os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "generate", "./bpf/...")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	compared := 0
	err = fs.WalkDir(os.DirFS(dir), "bpf", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if name := d.Name(); !strings.Contains(name, "bpfel") && name != "buckets.h" {
			return nil
		}
		compared++
		got, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		want, err := os.ReadFile(filepath.Join(root, path))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what go generate makes (%v): run go generate ./bpf/... and commit it", path, err)
		}
		return nil
	})
	if err != nil || compared < 9 {
		t.Errorf("compared %d files, %v", compared, err)
	}
}
