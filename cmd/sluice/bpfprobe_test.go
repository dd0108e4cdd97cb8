package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestBPFSaysWhichProbeItCannotReach(t *testing.T) {
	object, _ := signedProbe(t, signed.ours)
	absent := filepath.Join(t.TempDir(), "p.sock")
	for _, tt := range []struct {
		args    []string
		changes bool // what the probe runs, or would
	}{
		{[]string{"list"}, false},
		{[]string{"history"}, false},
		{[]string{"rollback"}, true},
		{[]string{"rollback", "--dry-run"}, false},
		{[]string{"load", object}, true},
		{[]string{"load", object, "--dry-run"}, true}, // the probe has to verify it
	} {
		says := func(target string, status int, text string) {
			t.Helper()
			stdout, stderr := wantStatus(t, status, append(append([]string{"bpf"}, tt.args...), "--probe", target)...)
			if stdout != "" || !strings.Contains(stderr, text) {
				t.Errorf("%v at %s: stdout %q, stderr %q", tt.args, target, stdout, stderr)
			}
		}
		says("unix:"+absent, exitUsage, "sluice: hint: is sluice-probe running? name its socket or address with --probe\n")
		says("node-7", exitUsage, `"node-7"`)
		if tt.changes {
			says("http://127.0.0.1:1", exitUsage, "a probe takes no orders over http://")
		} else {
			says("http://127.0.0.1:1", exitTransient, "connection refused")
		}
	}
}

func TestBPFAnswersOfAProbeAsJSON(t *testing.T) {
	p := newFakeProbe(t)
	good := "sha256:" + bpf.Digest(strings.Repeat("b", 64))
	p.objects.History = []wire.Object{{Digest: good, Good: true}, {Digest: "sha256:" + bpf.Digest(strings.Repeat("c", 64)), Bad: "it is slow"}}
	var loaded bpf.Loaded
	var history []wire.Object
	var swapped wire.SwapResult
	for _, tt := range []struct {
		command string
		into    any
	}{{"list", &loaded}, {"history", &history}, {"rollback", &swapped}} {
		stdout, _ := wantStatus(t, 0, "bpf", tt.command, "--probe", p.target, "-o", "json")
		if err := json.Unmarshal([]byte(stdout), tt.into); err != nil {
			t.Errorf("%s: %v in %s", tt.command, err, stdout)
		}
	}
	if loaded.Digest != p.objects.Loaded.Digest || len(history) != 2 || history[1].Bad != "it is slow" || swapped.Digest != good {
		t.Errorf("got %+v, %+v, %+v", loaded, history, swapped)
	}
	stdout, _ := wantStatus(t, 0, "bpf", "history", "--probe", p.target)
	if !strings.Contains(stdout, "no      bad: it is slow") {
		t.Error(stdout)
	}
}

// TestBPFSwapTakesOneSignedObject: what is not signed, or not the only one, does
// not reach the probe.
func TestBPFSwapTakesOneSignedObject(t *testing.T) {
	dir := t.TempDir()
	h, err := objects.Dir(dir, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	place := "dir:" + dir
	if stdout, _ := wantStatus(t, 0, "bpf", "history", "--history", place); stdout != "no objects yet\n" {
		t.Errorf("an empty history is %q", stdout)
	}
	if stdout, _ := wantStatus(t, 0, "bpf", "history", "--history", place, "-o", "json"); stdout != "[]\n" {
		t.Errorf("an empty history is %q as JSON", stdout)
	}
	unsigned, err := h.Put(t.Context(), probe.Object(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Put(t.Context(), append(bytes.Clone(probe.Object()), 0), nil); err != nil {
		t.Fatal(err)
	}
	p := newFakeProbe(t)
	for name, tt := range map[string]struct {
		digest string
		status int
		says   string
	}{
		"one that is not signed": {string(unsigned), 5, "is not signed in the history\nsluice: hint: sign it and use sluice bpf load\n"},
		"more than one":          {"sha256:", 2, "2 objects begin like this, write more of the digest"},
		"none":                   {"sha256:nothing", 2, "hint: sluice bpf history lists the objects there are"},
	} {
		stdout, stderr := wantStatus(t, tt.status, "bpf", "swap", tt.digest, "--history", place, "--probe", p.target)
		if stdout != "" || !strings.Contains(stderr, tt.says) || p.got.Object != nil {
			t.Errorf("%s: stdout %q, stderr %q, the probe got %d bytes", name, stdout, stderr, len(p.got.Object))
		}
	}
}
