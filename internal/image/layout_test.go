package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func open(t testing.TB, dir string) *Layout {
	t.Helper()
	l, err := OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// publish writes a release the way the pipeline does: image, referrers, tag.
func publish(l *Layout, c Config) (string, error) {
	index, err := Build(c)
	if err != nil {
		return "", err
	}
	digest, err := l.Write(index, "")
	if err != nil {
		return "", err
	}
	sbom, err := l.Attach(digest, "application/vnd.cyclonedx+json", "application/vnd.cyclonedx+json", []byte(`{"of":"`+digest+`"}`), nil)
	if err != nil {
		return "", err
	}
	for _, subject := range []string{digest, sbom} {
		if _, err := l.Attach(subject, "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle.v0.3+json",
			[]byte("signature of "+subject), map[string]string{"dev.sigstore.bundle.content": "message-signature"}); err != nil {
			return "", err
		}
	}
	return digest, l.Tag(digest, c.Version)
}

func mustPublish(t testing.TB, l *Layout, c Config) string {
	t.Helper()
	digest, err := publish(l, c)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// content is the layout's files and what is in them.
func content(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayoutKeepsVersionsAndReferrers(t *testing.T) {
	ca := certificate(t, 1)
	dir := filepath.Join(t.TempDir(), "out", "oci")
	l := open(t, dir)
	one := mustPublish(t, l, config(t, ca, "v1.0.0"))
	two := mustPublish(t, l, config(t, ca, "v1.1.0"))
	l = open(t, dir)
	tags, err := l.Tags()
	if diff := cmp.Diff([]string{"v1.0.0", "v1.1.0"}, tags); diff != "" || err != nil {
		t.Errorf("tags, %v (-want +got):\n%s", err, diff)
	}
	for tag, want := range map[string]string{"v1.0.0": one, "v1.1.0": two} {
		if got, err := l.Resolve(tag); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", tag, got, err, want)
		}
	}
	if _, err := l.Resolve("v1.2.0"); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown tag: %v; want ErrNotFound", err)
	}
	referrers, err := l.Referrers(one)
	if err != nil || len(referrers) != 2 {
		t.Fatalf("%d referrers, %v; want 2", len(referrers), err)
	}
	if text, err := referrers[1].Content(); err != nil || string(text) != "signature of "+one {
		t.Errorf("content %q, %v", text, err)
	}
	if got := referrers[1].Annotations["dev.sigstore.bundle.content"]; got != "message-signature" {
		t.Errorf("annotation %q", got)
	}
	if inner, err := l.Referrers(referrers[0].Digest); err != nil || len(inner) != 1 {
		t.Errorf("%d signatures of the SBOM, %v; want 1", len(inner), err)
	}
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
	t.Run("another program reads it", func(t *testing.T) {
		index, err := layout.ImageIndexFromPath(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Index(index); err != nil {
			t.Error(err)
		}
	})
	t.Run("publishing again changes nothing", func(t *testing.T) {
		before := content(t, dir)
		info, _ := os.Stat(l.indexPath())
		if got := mustPublish(t, l, config(t, ca, "v1.0.0")); got != one {
			t.Errorf("digest %s, then %s", one, got)
		}
		if diff := cmp.Diff(before, content(t, dir)); diff != "" {
			t.Errorf("files (-before +after):\n%s", diff)
		}
		if after, _ := os.Stat(l.indexPath()); !os.SameFile(info, after) {
			t.Error("index.json was written again")
		}
	})
}

func TestTags(t *testing.T) {
	ca := certificate(t, 1)
	l := open(t, t.TempDir())
	first, err := l.Write(build(t, config(t, ca, "v1.0.0")), "latest")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(first, "v1.0.0"); err != nil {
		t.Fatal(err)
	}
	second, err := l.Write(build(t, config(t, ca, "v1.1.0")), "latest")
	if err != nil {
		t.Fatal(err)
	}
	third, err := l.Write(build(t, config(t, ca, "v1.2.0")), "")
	if err != nil {
		t.Fatal(err)
	}
	for tag, want := range map[string]string{"latest": second, "v1.0.0": first, first: first, second: second, third: third} {
		if got, err := l.Resolve(tag); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", tag, got, err, want)
		}
	}
	if err := l.Tag(first, TagFor("v1.0.0-rc.1+build.5")); err != nil {
		t.Error(err)
	}
	for _, tag := range []string{"", "a b", "v1.0.0+build", "../x", strings.Repeat("a", 129), ".a", "sha256:" + strings.Repeat("a", 64)} {
		if err := l.Tag(first, tag); err == nil {
			t.Errorf("%q was taken as tag", tag)
		}
	}
	if err := l.Tag("sha256:"+strings.Repeat("a", 64), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("tag for an unknown digest: %v; want ErrNotFound", err)
	}
	if _, err := l.Attach("sha256:"+strings.Repeat("a", 64), "x/y", "x/y", nil, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("referrer of an unknown digest: %v; want ErrNotFound", err)
	}
}

func TestAttachToAPlatform(t *testing.T) {
	l := open(t, t.TempDir())
	index := build(t, config(t, certificate(t, 1), "v1.0.0"))
	if _, err := l.Write(index, "v1.0.0"); err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	platform := manifest.Manifests[0].Digest.String()
	want, err := l.Attach(platform, "x/y", "x/y", []byte("text"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := l.Referrers(platform); err != nil || len(got) != 1 || got[0].Digest != want {
		t.Errorf("referrers %v, %v; want %s", got, err, want)
	}
}

func TestArtifact(t *testing.T) {
	l := open(t, t.TempDir())
	files := map[string][]byte{"probe.bpf.o": []byte("\x7fELF"), "spec.json": []byte("{}")}
	digest, err := l.WriteArtifact("probe-v1.0.0", "application/vnd.sluice.ebpf.v1",
		File{Name: "probe.bpf.o", Content: files["probe.bpf.o"]}, File{Name: "spec.json", MediaType: "application/json", Content: files["spec.json"]})
	if err != nil {
		t.Fatal(err)
	}
	for _, by := range []string{"probe-v1.0.0", digest} {
		got, gotDigest, err := l.ReadArtifact(by)
		if diff := cmp.Diff(files, got); diff != "" || err != nil || gotDigest != digest {
			t.Errorf("%s is %s, %v (-want +got):\n%s", by, gotDigest, err, diff)
		}
	}
	if _, _, err := l.ReadArtifact("absent"); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v; want ErrNotFound", err)
	}
	for name, list := range map[string][]File{"none": nil, "one without name": {{}}, "a path": {{Name: "a/b"}}, "the parent": {{Name: ".."}}, "one twice": {{Name: "a"}, {Name: "a"}}} {
		if _, err := l.WriteArtifact("x", "x/y", list...); err == nil {
			t.Errorf("files %s: no error", name)
		}
	}
	if _, err := l.WriteArtifact("x", "", File{Name: "a"}); err == nil {
		t.Error("no artifact type: no error")
	}
	image, err := l.Write(build(t, config(t, certificate(t, 1), "v1.0.0")), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.ReadArtifact(image); err == nil {
		t.Error("an image was read as artifact")
	}
	if _, err := l.Image(digest); err == nil {
		t.Error("an artifact was read as image")
	}
}

func TestDirectoriesThatAreNoLayout(t *testing.T) {
	write := func(dir, name, text string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	other := func() string { return open(t, t.TempDir()).dir }
	for name, tt := range map[string]struct{ dir, want string }{
		"somebody's home":   {write(t.TempDir(), "thesis.txt", ""), "is not empty (thesis.txt)"},
		"a file":            {write(t.TempDir(), "x", "") + "/x", "not a directory"},
		"a later version":   {write(other(), "oci-layout", `{"imageLayoutVersion":"2.0.0"}`), `"2.0.0"`},
		"no version":        {write(other(), "oci-layout", ``), "oci-layout"},
		"a cut index":       {write(other(), "index.json", `{"schemaVersion":2,`), "index.json"},
		"an index of lists": {write(other(), "index.json", `[]`), "index.json"},
		"a tag twice": {write(other(), "index.json", fmt.Sprintf(`{"schemaVersion":2,"manifests":[%[1]s,%[1]s]}`,
			`{"digest":"sha256:`+strings.Repeat("a", 64)+`","annotations":{"org.opencontainers.image.ref.name":"a"}}`)), `the tag "a" is there twice`},
		"a path as digest": {write(other(), "index.json", `{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x"}]}`), "index.json"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := OpenLayout(tt.dir); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v; want one with %q", err, tt.want)
			}
		})
	}
	gone := other()
	if err := os.Remove(filepath.Join(gone, "index.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenLayout(gone); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a layout that lost its index: %v; want an error, not an empty layout", err)
	}
}

func TestTwoWriters(t *testing.T) {
	ca := certificate(t, 1)
	dir := filepath.Join(t.TempDir(), "oci")
	const each = 8
	var wg sync.WaitGroup
	for w := range 3 {
		configs := make([]Config, each)
		for i := range each {
			configs[i] = config(t, ca, fmt.Sprintf("v%d.%d.0", w, i))
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			l, err := OpenLayout(dir)
			for i := 0; err == nil && i < each; i++ {
				_, err = publish(l, configs[i])
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	wg.Wait()
	l := open(t, dir)
	if tags, err := l.Tags(); err != nil || len(tags) != 3*each {
		t.Errorf("%d tags, %v; want %d", len(tags), err, 3*each)
	}
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
}

func TestCopyTo(t *testing.T) {
	ca := certificate(t, 1)
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	digest := mustPublish(t, from, config(t, ca, "v1.0.0"))
	mustPublish(t, from, config(t, ca, "v1.1.0"))
	for range 2 {
		got, err := from.CopyTo(t.Context(), to, "v1.0.0")
		if err != nil || got != digest {
			t.Fatalf("%s, %v; want %s", got, err, digest)
		}
	}
	if err := errors.Join(to.Verify(), readAll(to, digest)); err != nil {
		t.Error(err)
	}
	if tags, err := to.Tags(); err != nil || !slices.Equal(tags, []string{"v1.0.0"}) {
		t.Errorf("tags %v, %v", tags, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := from.CopyTo(ctx, to, "v1.1.0"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v; want context.Canceled", err)
	}
	if tags, err := to.Tags(); err != nil || len(tags) != 1 {
		t.Errorf("tags %v, %v after a copy that was cancelled", tags, err)
	}
}

func FuzzParseIndex(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","size":1,"digest":"sha256:` + strings.Repeat("a", 64) + `"}]}`))
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"sha512:","size":-1}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if index, err := parseIndex(text); err == nil {
			for _, d := range index.Manifests {
				if path := (&Layout{dir: "x"}).blobPath(d.Digest); len(path) != len("x/blobs/sha256/")+64 {
					t.Errorf("path %q", path)
				}
			}
		}
		if m, err := parseManifest(text); err == nil && m.Config.Size < 0 {
			t.Errorf("size %d", m.Config.Size)
		}
	})
}
