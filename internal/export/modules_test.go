package export_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestNothingHeavyIsLinked holds what the privileged process links by these
// exports: the SDK's exporter would bring gRPC.
func TestNothingHeavyIsLinked(t *testing.T) {
	testenv.Need(t, "go")
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".", "../wire").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]bool{}
	for module := range strings.Lines(string(out)) {
		if module = strings.TrimSpace(module); module != "" { // of the standard library
			modules[module] = true
		}
	}
	if len(modules) < 5 || len(modules) > 12 || modules["google.golang.org/grpc"] {
		t.Errorf("%d modules, expected at most 12 and no gRPC: %v", len(modules), modules)
	}
}
