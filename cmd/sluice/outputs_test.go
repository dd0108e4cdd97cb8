package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// arguments are what commands take that take some.
var arguments = map[string][]string{
	"sluice bpf build":  {"probe.bpf.c"},
	"sluice bpf check":  {"probe.bpf.o"},
	"sluice bpf load":   {"probe.bpf.o"},
	"sluice bpf pull":   {"oci:layout:v1"},
	"sluice bpf push":   {"probe.bpf.o", "oci:layout:v1"},
	"sluice bpf sign":   {"probe.bpf.o", "--new-key", "more"},
	"sluice bpf swap":   {"sha256:5c02", "--history", "dir:nowhere"},
	"sluice bpf verify": {"probe.bpf.o"},
	"sluice load":       {"http://127.0.0.1:1/"},
	"sluice sbom diff":  {"old.json", "new.json"},
}

// commands lists every command that does something.
func commands(of *cobra.Command) (list []*cobra.Command) {
	if of.Runnable() && of.Name() != "completion" && of.Name() != "help" {
		list = append(list, of)
	}
	for _, c := range of.Commands() {
		list = append(list, commands(c)...)
	}
	return list
}

func call(c *cobra.Command, more ...string) []string {
	return append(append(strings.Fields(c.CommandPath())[1:], arguments[c.CommandPath()]...), more...)
}

func TestEveryCommandNamesTheOutputsThatItKnows(t *testing.T) {
	object, _ := signedProbe(t, signed.ours)
	t.Chdir(filepath.Dir(object))
	for _, name := range []string{"old.json", "new.json"} {
		if err := os.WriteFile(name, []byte(`{"bomFormat": "CycloneDX"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range commands(rootCommand()) {
		if c.Flags().Lookup("output") == nil || c.CommandPath() == "sluice bpf swap" { // which looks for the object first
			continue
		}
		t.Run(c.CommandPath(), func(t *testing.T) {
			out, log := wantStatus(t, exitUsage, call(c, "-o", "nonsense")...)
			if out != "" || !strings.HasPrefix(log, `sluice: unknown output "nonsense" (known: text, `) {
				t.Errorf("stdout %q, stderr %q", out, log)
			}
		})
	}
}

func TestEveryCommandSaysThatThereIsNoConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	without := map[string]bool{ // these do not read it
		"sluice bpf build": true, // with a source
		"sluice gate":      true, // what was recorded has it
		"sluice sbom diff": true, // without --base
	}
	for _, c := range commands(rootCommand()) {
		if c.Flags().Lookup("file") == nil || without[c.CommandPath()] {
			continue
		}
		t.Run(c.CommandPath(), func(t *testing.T) {
			out, log := wantStatus(t, exitUsage, call(c, "-f", "none.yaml")...)
			if out != "" || !strings.HasPrefix(log, "sluice: reading none.yaml: there is no such file\nsluice: hint: the smallest none.yaml is:\n") {
				t.Errorf("stdout %q, stderr %q", out, log)
			}
			if left, err := os.ReadDir("."); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
