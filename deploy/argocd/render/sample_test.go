package render

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/config"
)

const (
	samples  = "../../manifests"
	hookRef  = "registry.example.com/sluice/sluice-argo:1.0.0@sha256:1111111111111111111111111111111111111111111111111111111111111111"
	probeRef = "registry.example.com/sluice/sluice-probe:1.0.0@sha256:2222222222222222222222222222222222222222222222222222222222222222"
	shopRef  = "registry.example.com/team/shop:1.2.0@sha256:3333333333333333333333333333333333333333333333333333333333333333"
)

// sample is one of the committed folders, and how it was written.
type sample struct{ dir, only string }

var committed = []sample{{"replicas", Service}, {"httproute", Service}, {"cluster", Cluster}}

// TestSamplesAreCommitted renders the samples by the command itself and compares
// them with what is committed (UPDATE=1 rewrites it).
func TestSamplesAreCommitted(t *testing.T) {
	for _, s := range committed {
		t.Run(s.dir, func(t *testing.T) {
			r := run{
				file: filepath.Join(samples, s.dir, "sluice.yaml"), dir: filepath.Join(samples, s.dir), check: os.Getenv("UPDATE") == "",
				o: Options{Only: s.only, HookImage: hookRef, ProbeImage: probeRef, Release: shopRef},
			}
			if s.only == Cluster {
				r.file = filepath.Join(samples, "replicas", "sluice.yaml")
			}
			if _, err := r.run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// rendered returns the files of a sluice.yaml that is changed by replacing texts.
func rendered(t *testing.T, sample string, o Options, oldnew ...string) map[string][]byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(samples, sample, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(oldnew...).Replace(string(raw))
	cfg, err := config.Parse([]byte(text), "sluice.yaml")
	if err != nil {
		t.Fatal(err)
	}
	o.HookImage, o.ProbeImage, o.Config, o.PublicKey = hookRef, probeRef, []byte(text), []byte("key")
	files, err := Render(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRenderingIsTheSameEachTime(t *testing.T) {
	first := rendered(t, "httproute", Options{})
	for range 20 {
		again := rendered(t, "httproute", Options{})
		if !maps.EqualFunc(first, again, bytes.Equal) {
			t.Fatal("two renderings differ")
		}
	}
}

func TestNothingRenderedIsNoise(t *testing.T) {
	for name, text := range rendered(t, "httproute", Options{}) {
		if !strings.HasSuffix(name, ".json") && !written(text) {
			t.Errorf("%s does not say who wrote it", name)
		}
		for _, noise := range []string{"null", "creationTimestamp", "\nstatus:", "resources: {}", "strategy: {}"} {
			if strings.HasSuffix(name, ".yaml") && bytes.Contains(text, []byte(noise)) {
				t.Errorf("%s has %q in it:\n%s", name, noise, text)
			}
		}
	}
}
