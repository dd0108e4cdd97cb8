package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/engine"
	"github.com/sluice-cd/sluice/internal/pipeline"
)

// shop is a service in a folder of its own, and its configuration with what a
// test adds.
func shop(t *testing.T, file, more string) (root string, j pipeline.Job) {
	t.Helper()
	root = t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/shop\n", "main.go": "package main\n\nfunc main() {}\n", "cosign.key": "private",
		file: "name: shop\nbuild: {main: ., dir: " + strings.Repeat("../", strings.Count(file, "/")) + ".}\ndeploy: {local: {listen: \"127.0.0.1:8080\"}}\n" + more,
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := config.Load(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return root, pipeline.Job{Config: cfg, Version: "v1.1.0", Out: filepath.Join(root, "made"), Env: map[string]string{"B": "2", "A": "1"}}
}

func TestAnEngineIsGivenTheSourceAndTheCommand(t *testing.T) {
	root, j := shop(t, "sluice.yaml", "")
	e := executor{rate: 100}
	job, err := e.job(t.Context(), options{}, j)
	if err != nil {
		t.Fatal(err)
	}
	if job.Source != root || job.Binary == "" || job.Run == "" || job.Rollout.File != "" || job.Rollout.URL != "http://127.0.0.1:8080/" {
		t.Errorf("got %+v", job)
	}
	if d := cmp.Diff([]string{"A=1", "B=2"}, job.Rollout.Env); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"made"}, job.Exclude); d != "" {
		t.Error(d)
	}
}

func TestAConfigurationBelowTheModuleIsNamed(t *testing.T) {
	root, j := shop(t, "deploy/shop.yaml", "")
	job, err := (&executor{}).job(t.Context(), options{}, j)
	if err != nil || job.Source != root || job.Rollout.File != "deploy/shop.yaml" {
		t.Errorf("got %+v, %v", job, err)
	}
}

func TestTheResultOfAnEngineIsPrintedAsOursWouldBe(t *testing.T) {
	_, j := shop(t, "sluice.yaml", "")
	for name, tt := range map[string]struct {
		result engine.Result
		text   string
		err    string
		status int
	}{
		"promoted": {engine.Result{Report: []byte(`{"outcome":"promoted","verdict":"pass","record":{}}`)}, "shop v1.1.0 promoted: pass\n", "", 0},
		"rolled back": {
			engine.Result{Status: 1, Report: []byte(`{"outcome":"rolled-back","verdict":"fail","error":"gate: fail: latency","record":{}}`), Log: "sluice: gate: fail: latency\n"},
			"shop v1.1.0 rolled-back: fail\n", "gate: fail: latency", 1,
		},
		"never begun": {engine.Result{Status: 2, Log: "sluice: sluice.yaml:1: unknown field\nsluice: hint: look\n"}, "", "sluice.yaml:1: unknown field", 2},
		"silent":      {engine.Result{Status: 137}, "", "status 137", 137},
		"unreadable":  {engine.Result{Report: []byte("{")}, "", "reading the result", 2},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			err := (&executor{}).finish(&b, j, tt.result, false)
			if b.String() != tt.text {
				t.Errorf("printed %q, want %q", b.String(), tt.text)
			}
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if err != nil && exitCode(t.Context(), err) != tt.status {
				t.Errorf("status %d, want %d", exitCode(t.Context(), err), tt.status)
			}
		})
	}
}

func TestALedgerOfThisMachineIsNotGivenAway(t *testing.T) {
	err := error(&servesHereError{"shop", "v1.0.0", "out"})
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "--out") || !strings.Contains(err.Error(), "v1.0.0 serves on this machine") {
		t.Errorf("got %v", err)
	}
}
