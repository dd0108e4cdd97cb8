package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/deploy/argocd/operation"
	"github.com/sluice-cd/sluice/internal/actions"
)

func TestAWorkflowLearnsTheVerdict(t *testing.T) {
	dir := t.TempDir()
	env := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
	}
	var commands strings.Builder
	res := operation.Result{App: "shop", Phase: "Failed", Verdict: "fail", Reason: "p50 4 ms → 9 ms", Release: "1.2.0", Revision: "0123456789abcdef"}
	if err := publish(actions.New(func(n string) string { return env[n] }, &commands), res, &operation.FailedError{Result: res}); err != nil {
		t.Fatal(err)
	}
	output, err := os.ReadFile(env["GITHUB_OUTPUT"])
	summary, summaryErr := os.ReadFile(env["GITHUB_STEP_SUMMARY"])
	if err := errors.Join(err, summaryErr); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string][2]string{
		"output":     {string(output), "\nfail\n"},
		"summary":    {string(summary), "### shop 1.2.0: fail\n\np50 4 ms → 9 ms\n"},
		"annotation": {commands.String(), "::error title=sluice%3A gate::failed: the sync of shop ended with the verdict fail"},
	} {
		if !strings.Contains(want[0], want[1]) {
			t.Errorf("%s is %q, want it to contain %q", what, want[0], want[1])
		}
	}
}

func TestCodeScanningLearnsTheVerdict(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sluice.sarif")
	res := operation.Result{App: "shop", Phase: "Failed", Verdict: "fail", Reason: "p50 4 ms → 9 ms"}
	for _, tt := range []struct {
		failed error
		want   string
	}{{&operation.FailedError{Result: res}, `"ruleId": "gate"`}, {nil, `"results": []`}} {
		if err := writeSARIF(file, "sluice.yaml", tt.failed); err != nil {
			t.Fatal(err)
		}
		if log, err := os.ReadFile(file); err != nil || !strings.Contains(string(log), tt.want) {
			t.Errorf("%s, %v, want %s", log, err, tt.want)
		}
	}
	if err := writeSARIF(t.TempDir(), "sluice.yaml", nil); err == nil || !strings.Contains(err.Error(), "writing SARIF") {
		t.Errorf("into a folder: %v", err)
	}
}

func TestWrongFlagsOfSync(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no configuration": {[]string{"sync", "-f", filepath.Join(t.TempDir(), "none.yaml")}, "none.yaml"},
		"an output":        {[]string{"sync", "-o", "yaml"}, "known: text, json"},
		"an argument":      {[]string{"sync", "shop"}, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			if code := run(tt.args, io.Discard, &said); code != 2 || !strings.Contains(said.String(), tt.want) {
				t.Errorf("exit status %d, said %q", code, said.String())
			}
		})
	}
}
