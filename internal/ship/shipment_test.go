package main

import (
	"bytes"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// small is a program that is built in no time; what is done with it is the same.
func small(t *testing.T) shipment {
	t.Helper()
	testenv.Need(t, "go")
	dir := t.TempDir()
	for file, text := range map[string]string{"go.mod": "module example.com/small\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { println(1) }\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return shipment{
		dir: dir, out: filepath.Join(t.TempDir(), "images"), version: "v1.2.3", most: 8 << 20,
		platforms: []build.Platform{{OS: "linux", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}},
		programs:  []program{{name: "small", main: ".", port: 9640}},
	}
}

func TestTheSameSourceGivesTheSameImage(t *testing.T) {
	a, b := small(t), small(t)
	first, err := a.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := b.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("two folders give two images: %s", d)
	}
	want := []Made{{Name: "small", Digest: first[0].Digest, Platforms: []string{"linux/amd64", "linux/arm64"}, Bytes: first[0].Bytes, Binary: first[0].Binary}}
	if d := cmp.Diff(want, first); d != "" || first[0].Bytes == 0 || first[0].Binary == 0 {
		t.Errorf("made %+v: %s", first, d)
	}
}

func TestAnImageRunsItsProgramAsNobody(t *testing.T) {
	s := small(t)
	made, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(s.out)
	if err != nil {
		t.Fatal(err)
	}
	index, err := layout.Image("small-v1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := index.Digest()
	if err != nil || digest.String() != made[0].Digest {
		t.Errorf("the layout has %s, printed was %s (%v)", digest, made[0].Digest, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range manifest.Manifests {
		img, err := index.Image(child.Digest)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if cfg.Config.User != image.User || !cmp.Equal(cfg.Config.Entrypoint, []string{"/small"}) {
			t.Errorf("%s: user %s, entry point %v", child.Platform, cfg.Config.User, cfg.Config.Entrypoint)
		}
	}
}

func TestWhatWasPushedIsNamedByTagAndDigest(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	s := small(t)
	s.registry, s.insecure = strings.TrimPrefix(server.URL, "http://")+"/team", true
	made, err := s.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := s.registry + "/small:v1.2.3@" + made[0].Digest; made[0].Ref != want {
		t.Errorf("named %s, want %s", made[0].Ref, want)
	}
	ref, err := name.ParseReference(s.registry+"/small:v1.2.3", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	head, err := remote.Head(ref, remote.WithContext(t.Context()))
	if err != nil || head.Digest.String() != made[0].Digest {
		t.Errorf("the registry has %v (%v), want %s", head, err, made[0].Digest)
	}
}

func TestMoreAuthoritiesComeBesideThoseOfTheMachine(t *testing.T) {
	plain, more := small(t), small(t)
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	more.ca = filepath.Join(t.TempDir(), "own.pem")
	own := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(more.ca, own, 0o644); err != nil {
		t.Fatal(err)
	}
	without, err := plain.authorities(t.TempDir())
	if err != nil || without != "" {
		t.Errorf("without the flag: %q, %v", without, err)
	}
	with, err := more.authorities(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := os.ReadFile(with)
	if err != nil || !bytes.Contains(bundle, own) || len(bundle) <= len(own) {
		t.Errorf("the bundle of %d bytes lacks some (%v)", len(bundle), err)
	}
}

func TestWhatCannotBeShipped(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*shipment)
		want   string
	}{
		"an image beyond its budget":      {func(s *shipment) { s.most = 1 << 10 }, "more than"},
		"a package that is not there":     {func(s *shipment) { s.programs[0].main = "./missing" }, "small: "},
		"a platform that does not exist":  {func(s *shipment) { *s = s.parse("linux/amd65", "") }, "amd65"},
		"an image that nobody knows":      {func(s *shipment) { s.programs = nil; *s = s.parse("linux/amd64", "sluice-agro") }, "known: sluice-argo, sluice-probe"},
		"authorities that are not there":  {func(s *shipment) { s.ca = "missing.pem" }, "missing.pem"},
		"plain HTTP to a registry abroad": {func(s *shipment) { s.registry, s.insecure = "registry.example.com/team", true }, "plain HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			s := small(t)
			tt.change(&s)
			if _, err := s.run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}
