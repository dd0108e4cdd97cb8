package sluice_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheActionRunsHere executes the action's script the way the runner does.
func TestTheActionRunsHere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds sluice")
	}
	for name, tt := range map[string]struct {
		env      []string
		ok       bool
		annotate string
		sarif    string
	}{
		"a configuration in order": {env: []string{"SLUICE_COMMAND=check"}, ok: true, sarif: `"results": []`},
		"one that is not": {
			env:      []string{"SLUICE_COMMAND=check", "SLUICE_CONFIG=wrong.yaml"},
			annotate: "::error file=wrong.yaml,line=1,title=sluice%3A configuration::", sarif: `"ruleId": "configuration"`,
		},
		"arguments stay arguments": {
			env:      []string{"SLUICE_COMMAND=check", "SLUICE_ARGS=--nonsense; touch pwned\n$(touch pwned)"},
			annotate: "::error title=sluice%3A sluice::unknown flag", sarif: `"ruleId": "sluice"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			script, err := filepath.Abs(".github/actions/sluice/run.sh")
			if err != nil {
				t.Fatal(err)
			}
			for file, text := range map[string]string{
				"sluice.yaml": "name: hello\nbuild: {main: ./app}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n",
				"wrong.yaml":  "name: hello\n", "go.mod": "module hello\n", "app/main.go": "package main\n\nfunc main() {}\n",
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(),
				"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE="+dir, "RUNNER_TEMP="+dir, "GITHUB_OUTPUT="+filepath.Join(dir, "output"),
				"GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary"), "SLUICE_CONFIG=sluice.yaml", "SLUICE_VERSION=", "SLUICE_ARGS=", "SLUICE_SARIF=out.sarif")
			cmd.Env = append(cmd.Env, tt.env...)
			said, err := cmd.CombinedOutput()
			if (err == nil) != tt.ok || !strings.Contains(string(said), tt.annotate) {
				t.Errorf("%v, said %s", err, said)
			}
			sarif, err := os.ReadFile(filepath.Join(dir, "out.sarif"))
			if err != nil || !strings.Contains(string(sarif), tt.sarif) {
				t.Errorf("SARIF %s, %v", sarif, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Error("an argument was executed")
			}
		})
	}
}
