package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/config"
)

func TestNoVersionIsShippedTwiceAndNoScenarioHasTwoNames(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range recipes() {
		if seen[b.key()] {
			t.Errorf("%s is made twice", b.key())
		}
		seen[b.key()] = true
	}
	for _, s := range scenarios() {
		if seen[s.name] || s.play == nil || s.on == nil || s.what == "" {
			t.Errorf("scenario %q", s.name)
		}
		seen[s.name] = true
	}
}

// The settings of services and the recipes of releases are files that users
// could have written.
func TestSettingsAreValid(t *testing.T) {
	l := &lab{info: &cluster.Info{Registry: "172.30.0.1:5000", Git: "http://172.30.0.1:3000"}, maker: &maker{root: t.TempDir()}}
	m := l.maker
	files := map[string][]byte{
		"shop": (&service{lab: l, name: "shop"}).settings(),
		"web":  (&service{lab: l, name: "web", route: true}).settings(),
		"tags": (&service{lab: l, name: "tags", revision: "1.*"}).settings(),
	}
	for _, b := range recipes() {
		files["recipe of "+b.key()] = m.settings(b)
	}
	for name, text := range files {
		file := filepath.Join(t.TempDir(), "sluice.yaml")
		if err := os.WriteFile(file, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Read(file); err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}

func TestATamperedObjectIsAnotherOneThatLoadsAllTheSame(t *testing.T) {
	object := tampered()
	if bpf.DigestOf(object) == bpf.DigestOf(probe.Object()) {
		t.Error("it has the same digest")
	}
	if _, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(object)); err != nil {
		t.Error(err)
	}
}

func TestTheCostOfAPodIsReadFromBothVersionsOfControlGroups(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"version 1": {"cpuacct.usage": "1500000000\n", "memory.max_usage_in_bytes": "1048576\n"},
		"version 2": {"cpu.stat": "usage_usec 1500000\nuser_usec 1\n", "memory.peak": "1048576\n"},
	} {
		dir := t.TempDir()
		for file, text := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if cpu, memory := usage([]string{dir}); cpu != 1500*time.Millisecond || memory != 1<<20 {
			t.Errorf("%s: %v, %d bytes", name, cpu, memory)
		}
	}
}
