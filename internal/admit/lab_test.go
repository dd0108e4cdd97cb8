package admit_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/sign"
)

const serviceYAML = `name: hello
build: {main: ., platforms: [linux/amd64, linux/arm64, windows/amd64]}
pack: {upx: "off"}
deploy: {local: {listen: 127.0.0.1:8080}}
`

// workspace is where the service is and its releases come to be.
var workspace string

func TestMain(m *testing.M) {
	code := m.Run()
	if workspace != "" {
		_ = os.RemoveAll(workspace)
	}
	os.Exit(code)
}

// released makes two releases, by the steps of `sluice publish`, once.
var released = sync.OnceValues(func() (out string, err error) {
	if workspace, err = os.MkdirTemp("", "sluice-admit-"); err != nil {
		return "", err
	}
	for file, text := range map[string]string{
		"go.mod": "module hello\n\ngo 1.26\n", "sluice.yaml": serviceYAML,
		"main.go": "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
	} {
		if err := os.WriteFile(filepath.Join(workspace, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	cfg, err := config.Load(filepath.Join(workspace, "sluice.yaml"))
	if err != nil {
		return "", err
	}
	out = filepath.Join(workspace, "out")
	for _, version := range []string{"v1.2.0", "v1.3.0"} {
		job := pipeline.Job{Config: cfg, Out: out, Version: version, Commit: "4b825dc642cb6eb9a060e54bf8d69288fbee4904"}
		if err := pipeline.Run(context.Background(), pipeline.Release(job), func(pipeline.Event) {}); err != nil {
			return "", fmt.Errorf("releasing %s: %w", version, err)
		}
	}
	return out, nil
})

// lab is a registry, and a release that was made with real keys.
type lab struct {
	t       *testing.T
	out     string
	host    string
	handler func(http.ResponseWriter, *http.Request) bool // answers instead of the registry if it returns true
	server  *httptest.Server
}

func newLab(t *testing.T, referrers bool) *lab {
	t.Helper()
	out, err := released()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, out: out}
	real := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(referrers))
	l.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.handler == nil || !l.handler(w, r) {
			real.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(l.server.Close)
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	l.host = strings.TrimPrefix(l.server.URL, "http://")
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) layout() *image.Layout {
	l.t.Helper()
	layout, err := image.OpenLayout(filepath.Join(l.out, "oci"))
	l.must(err)
	return layout
}

func (l *lab) verifier() *sign.Verifier {
	l.t.Helper()
	v, err := sign.OpenVerifier(filepath.Join(l.out, "keys", "cosign.pub"))
	l.must(err)
	return v
}

// push publishes a version as `sluice publish` does and returns its reference.
func (l *lab) push(from *image.Layout, version string) string {
	l.t.Helper()
	repository := l.host + "/team/hello:"
	digest, err := image.Push(l.t.Context(), from, version, repository+version, image.PushOptions{Insecure: true})
	l.must(err)
	return repository + version + "@" + digest
}

func (l *lab) demands() admit.Demands {
	return admit.Demands{Verifiers: []*sign.Verifier{l.verifier()}, Name: "hello", Insecure: true}
}

// attachment is something that is to be attached to an image.
type attachment struct {
	about   string // digest
	name    string // of the file that it was
	content []byte
}

// changed is a copy of the layout in which another hand was at what is attached
// to a version.
func (l *lab) changed(version string, change func(a attachment) []attachment) *image.Layout {
	l.t.Helper()
	from := l.layout()
	index, err := from.Image(version)
	l.must(err)
	to, err := image.OpenLayout(filepath.Join(l.t.TempDir(), "oci"))
	l.must(err)
	_, err = to.Write(index, version)
	l.must(err)
	for _, about := range append(l.platforms(index), l.digest(index)) {
		referrers, err := from.Referrers(about)
		l.must(err)
		for _, r := range referrers {
			if r.ArtifactType != image.BundleArtifactType {
				continue
			}
			content, err := r.Content()
			l.must(err)
			for _, a := range change(attachment{about, r.Annotations["org.opencontainers.image.title"], content}) {
				_, err := to.AttachBundle(a.about, a.content)
				l.must(err)
			}
		}
	}
	return to
}

func (l *lab) digest(index v1.ImageIndex) string {
	l.t.Helper()
	d, err := index.Digest()
	l.must(err)
	return d.String()
}

func (l *lab) platforms(index v1.ImageIndex) (list []string) {
	l.t.Helper()
	manifest, err := index.IndexManifest()
	l.must(err)
	for _, m := range manifest.Manifests {
		list = append(list, m.Digest.String())
	}
	return list
}
