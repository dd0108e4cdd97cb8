package pipeline

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/release"
)

// put writes a file that the key of the release has signed.
func put(t *testing.T, j Job, path string, data []byte) {
	t.Helper()
	s, err := j.signer()
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := s.Blob(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, data, 0o644), os.WriteFile(bundlePath(path), bundle, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// restate changes the manifest and signs it again.
func restate(t *testing.T, j Job, change func(*release.Release)) {
	t.Helper()
	raw, err := os.ReadFile(j.path("release.json"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := release.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	change(&r)
	if raw, err = r.Encode(); err != nil {
		t.Fatal(err)
	}
	put(t, j, j.path("release.json"), raw)
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// blobs are those of the image of one platform, by what they are.
func blobs(t *testing.T, j Job) map[string]string {
	t.Helper()
	layout, err := image.OpenLayout(filepath.Join(j.Out, "oci"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layout.Resolve(image.TagFor(j.Version))
	if err != nil {
		t.Fatal(err)
	}
	path := func(digest string) string { return filepath.Join(j.Out, "oci", "blobs", "sha256", bare(digest)) }
	type descriptor struct{ Digest string }
	read := func(digest string, into any) {
		raw, err := os.ReadFile(path(digest))
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var index struct{ Manifests []descriptor }
	read(digest, &index)
	var manifest struct {
		Config descriptor
		Layers []descriptor
	}
	read(index.Manifests[0].Digest, &manifest)
	return map[string]string{
		"index": path(digest), "manifest": path(index.Manifests[0].Digest), "config": path(manifest.Config.Digest),
		"layer": path(manifest.Layers[len(manifest.Layers)-1].Digest),
	}
}

// damage changes one byte of a blob.
func damage(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, raw, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func blob(name string) func(*testing.T, Job) {
	return func(t *testing.T, j Job) { damage(t, blobs(t, j)[name]) }
}

// unsigned makes the layout anew, with the image and nothing that is attached to it.
func unsigned(t *testing.T, j Job) {
	t.Helper()
	dir := filepath.Join(j.Out, "oci")
	if err := os.Rename(dir, dir+".before"); err != nil {
		t.Fatal(err)
	}
	before, err := image.OpenLayout(dir + ".before")
	if err != nil {
		t.Fatal(err)
	}
	index, err := before.Image(image.TagFor(j.Version))
	if err != nil {
		t.Fatal(err)
	}
	layout, err := image.OpenLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.Write(index, image.TagFor(j.Version)); err != nil {
		t.Fatal(err)
	}
}

// moved lets the tag of the release name something else.
func moved(t *testing.T, j Job) {
	t.Helper()
	layout, err := image.OpenLayout(filepath.Join(j.Out, "oci"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := layout.WriteArtifact(image.TagFor(j.Version), "application/x-other", image.File{Name: "x", Content: []byte("x")}); err != nil {
		t.Fatal(err)
	}
}

// otherSBOM describes the probe where the binary should be described; everything
// is signed.
func otherSBOM(t *testing.T, j Job) {
	t.Helper()
	of, err := filepath.Glob(j.path("sbom", "linux*.cdx.json"))
	if err != nil || len(of) != 1 {
		t.Fatalf("%v %v", of, err)
	}
	raw, err := os.ReadFile(j.path("sbom", "probe.cdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, j, of[0], raw)
	restate(t, j, func(r *release.Release) {
		for i, f := range r.SBOMs {
			if strings.HasSuffix(of[0], filepath.FromSlash(f.Path)) {
				now, err := (&Sign{Job: j}).file(of[0])
				if err != nil {
					t.Fatal(err)
				}
				r.SBOMs[i] = now
			}
		}
	})
}

func TestWhatDoesNotHoldOfARelease(t *testing.T) {
	w := newWorkshop(t)
	w.mustMake("v1.0.0")
	object := func(j Job) string { return (&Object{Job: j}).file() }
	for name, tt := range map[string]struct {
		tamper  func(t *testing.T, j Job)
		what    string // the first check that does not hold; "": all do
		problem string
		other   bool // it is no refusal
	}{
		"nothing was changed":                {tamper: func(*testing.T, Job) {}},
		"the manifest was changed":           {func(t *testing.T, j Job) { damage(t, j.path("release.json")) }, "manifest", "verifying ", false},
		"the manifest is no manifest":        {func(t *testing.T, j Job) { put(t, j, j.path("release.json"), []byte("{}")) }, "manifest", "decoding release manifest: ", false},
		"the manifest is of another service": {func(t *testing.T, j Job) { restate(t, j, func(r *release.Release) { r.Name = "other" }) }, "manifest", "the manifest is of other v1.0.0, not of ", false},
		"the manifest is of another version": {func(t *testing.T, j Job) { restate(t, j, func(r *release.Release) { r.Version = "v0.9.0" }) }, "manifest", " v0.9.0, not of ", false},
		"the manifest has no probe":          {func(t *testing.T, j Job) { restate(t, j, func(r *release.Release) { r.Object = nil }) }, "manifest", "no probe object", false},
		"the manifest has no binary for here": {func(t *testing.T, j Job) {
			restate(t, j, func(r *release.Release) { r.Artifacts[0].Platform = "linux/riscv64" })
		}, "manifest", "add it to build.platforms", true},
		"the probe was changed":                  {func(t *testing.T, j Job) { damage(t, object(j)) }, "manifest", "is not the released file", false},
		"the signature of the probe is missing":  {func(t *testing.T, j Job) { remove(t, bundlePath(object(j))) }, "manifest", "reading signature", false},
		"the signature of the binary is missing": {func(t *testing.T, j Job) { remove(t, bundlePath(j.path("bin", build.Native().Dir(), j.Config.Name))) }, "manifest", "reading signature", false},
		"the signature of an SBOM is missing":    {func(t *testing.T, j Job) { remove(t, bundlePath(j.path("sbom", "probe.spdx.json"))) }, "signature of sbom/probe.spdx.json", "reading signature", false},
		"the SBOM is of something else":          {otherSBOM, "SBOM of ", "it describes sha256 ", false},
		"there is no image":                      {func(t *testing.T, j Job) { remove(t, filepath.Join(j.Out, "oci")) }, "image ", "was not published (sluice publish)", false},
		"the tag names something else":           {moved, "image ", "tag v1.0.0 is sha256:", false},
		"nobody has signed the image":            {unsigned, "image ", "no signature by the configured key", false},
		"the index of the image is damaged":      {blob("index"), "image ", " has the digest sha256:", false},
		"the manifest of the image is damaged":   {blob("manifest"), "image ", " has the digest sha256:", false},
		"the config of the image is damaged":     {blob("config"), "image ", " has the digest sha256:", false},
		"a layer of the image is damaged":        {blob("layer"), "image ", " has the digest sha256:", false},
		"the public key is missing":              {func(t *testing.T, j Job) { remove(t, filepath.Join(j.Out, "keys")) }, "manifest", "cosign.pub", true},
		"the release was never made":             {func(t *testing.T, j Job) { remove(t, j.Dir()) }, "manifest", "there is no release v1.0.0", true},
	} {
		t.Run(name, func(t *testing.T) {
			j := w.job
			j.Out = filepath.Join(t.TempDir(), "out")
			if err := os.CopyFS(j.Out, os.DirFS(w.job.Out)); err != nil {
				t.Fatal(err)
			}
			tt.tamper(t, j)
			checks, err := Verify(j)
			var first Check
			for _, c := range checks {
				if c.Problem != "" {
					first = c
					break
				}
			}
			if tt.what == "" {
				if err != nil || first.Problem != "" || len(checks) < 5 {
					t.Errorf("%+v: %v", checks, err)
				}
				return
			}
			var refused *RefusedError
			if err == nil || errors.As(err, &refused) == tt.other {
				t.Errorf("the error is %v", err)
			}
			if refused != nil && (refused.Trigger != canary.Signature || refused.ExitCode() != gate.Invalid.ExitCode()) {
				t.Errorf("trigger %q, exit status %d", refused.Trigger, refused.ExitCode())
			}
			if !strings.HasPrefix(first.What, tt.what) || !strings.Contains(first.Problem, tt.problem) {
				t.Errorf("the first problem is with %q: %s", first.What, first.Problem)
			}
		})
	}
}
