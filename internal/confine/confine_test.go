package confine_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/confine"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// captive runs testdata/captive, a process that confines itself and then tries
// things. It is built without cgo, as the daemon is.
func captive(t *testing.T) map[string]string {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Need(t, "go")
	program := filepath.Join(t.TempDir(), "captive")
	build := exec.Command("go", "build", "-o", program, "./testdata/captive")
	if testing.CoverMode() != "" {
		build.Args = slices.Insert(build.Args, 2, "-cover", "-covermode="+testing.CoverMode(), "-coverpkg=../...")
	}
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ours, theirs := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(theirs, "old"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, ours, theirs, echo(t))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOCOVERDIR="+ours) // where it still may write
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if counts := os.Getenv("GOCOVERDIR"); counts != "" {
		if err := os.CopyFS(counts, os.DirFS(ours)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Error(err)
		}
	}
	var results map[string]string
	if err := json.Unmarshal(out, &results); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	return results
}

// echo is a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
		}
	}()
	return l.Addr().String()
}

func TestAConfinedProcessCanDoItsWorkAndNothingElse(t *testing.T) {
	results := captive(t)
	if len(results) < 40 {
		t.Errorf("only %d attempts", len(results))
	}
	if results["landlock"] != "true" {
		t.Errorf("no Landlock on this kernel: files are not restricted")
	}
	t.Logf("%s calls allowed", results["calls"])
	delete(results, "landlock")
	delete(results, "calls")
	for what, got := range results {
		refused := strings.Contains(got, "operation not permitted") || strings.Contains(got, "permission denied") || what == "x32 call" && strings.Contains(got, "not implemented")
		switch needed := strings.HasPrefix(what, "needed: "); {
		case needed && got != "allowed":
			t.Errorf("%s: %s", what, got)
		case !needed && !refused:
			t.Errorf("%s: %s, want it refused", what, got)
		}
	}
}

func TestApplyDemandsAProfile(t *testing.T) {
	if _, err := confine.Apply(confine.Limits{}); err == nil {
		t.Error("a process was confined without a list of system calls")
	}
}
