package pipeline

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/sbom"
)

// Check is one thing about a release that was verified.
type Check struct {
	What    string `json:"what"`
	Problem string `json:"problem,omitempty"` // empty: it holds
}

// Verify checks everything about a release in the out folder. All checks are
// made, whatever fails; the error is a *RefusedError for the first problem.
func Verify(j Job) ([]Check, error) {
	rel, _, err := j.verify(j.Version)
	if err != nil {
		return []Check{{"manifest and files of " + j.Version, err.Error()}}, err
	}
	v, err := j.verifier()
	if err != nil {
		return []Check{}, err
	}
	checks := []Check{{What: fmt.Sprintf("manifest %.19s and %d files", rel.digest, len(rel.Files()))}}
	add := func(what string, err error) {
		c := Check{What: what}
		if err != nil {
			c.Problem = err.Error()
		}
		checks = append(checks, c)
	}
	for _, f := range rel.Files() {
		_, err := verified(v, j.path(filepath.FromSlash(f.Path)))
		add("signature of "+f.Path, err)
	}
	for _, a := range rel.Artifacts {
		add("SBOM of "+a.Path, j.sbomBelongs(a))
	}
	add("image "+rel.Image, j.verifyImage(v, rel.Release))
	for _, c := range checks {
		if c.Problem != "" {
			return checks, &RefusedError{Trigger: "signature", Err: fmt.Errorf("%s: %s", c.What, c.Problem)}
		}
	}
	return checks, nil
}

// sbomBelongs checks that the SBOM of a binary is of that binary.
func (j Job) sbomBelongs(a release.Artifact) error {
	name := filepath.Base(filepath.Dir(filepath.FromSlash(a.Path)))
	raw, err := readFile(j.path("sbom", name+".cdx.json"))
	if err != nil {
		return err
	}
	subject, err := sbom.Subject(raw)
	if err != nil {
		return err
	}
	if subject != a.SHA256 {
		return fmt.Errorf("it describes sha256 %s, not %s", subject, a.SHA256)
	}
	return nil
}

// verifyImage checks the image in the layout: its digest, and a signature of
// it among its referrers.
func (j Job) verifyImage(v *sign.Verifier, r release.Release) error {
	layout, err := image.OpenLayout(filepath.Join(j.Out, "oci"))
	if err != nil {
		return err
	}
	digest, err := layout.Resolve(image.TagFor(r.Version))
	if errors.Is(err, image.ErrNotFound) {
		return fmt.Errorf("%s was not published (sluice publish): %w", r.Version, err)
	}
	if err != nil {
		return err
	}
	if digest != r.Image {
		return fmt.Errorf("tag %s is %s in the layout", r.Version, digest)
	}
	if err := readWhole(layout, digest); err != nil {
		return err
	}
	referrers, err := layout.Referrers(digest)
	if err != nil {
		return err
	}
	for _, ref := range referrers {
		if ref.ArtifactType != bundleType {
			continue
		}
		bundle, err := ref.Content()
		if err != nil {
			return err
		}
		if _, err := v.Attestation(bundle, bare(digest), sign.PredicateImage); err == nil {
			return nil
		}
	}
	return errors.New("no signature by the configured key is attached to it")
}

// readWhole reads every blob of an image, for the layout checks each digest as
// it is read.
func readWhole(layout *image.Layout, digest string) error {
	index, err := layout.Image(digest)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, m := range manifest.Manifests {
		img, err := index.Image(m.Digest)
		if err != nil {
			return err
		}
		if _, err := img.RawConfigFile(); err != nil {
			return err
		}
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, l := range layers {
			blob, err := l.Compressed()
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, blob)
			if err := errors.Join(err, blob.Close()); err != nil {
				return err
			}
		}
	}
	return nil
}
