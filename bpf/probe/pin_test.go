package probe

import (
	"os"
	"testing"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// pinFolder is a folder for the pins of a test, which is not there yet.
func pinFolder(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	root, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "sluice-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir + "/probe"
}
