package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/sluice-cd/sluice/internal/image"
)

// The media types of what is attached to an image.
const (
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
	cycloneDXType = "application/vnd.cyclonedx+json"
	spdxType      = "application/spdx+json"
)

// Publish writes image, SBOMs and signatures to the OCI layout in the out
// folder, and to a registry if one is configured. Tags come last.
type Publish struct {
	Job
	Sign *Sign
}

func (*Publish) String() string { return "publish" }

// Run publishes what is not there yet.
func (s *Publish) Run(ctx context.Context) (string, error) {
	layout, err := image.OpenLayout(filepath.Join(s.Out, "oci"))
	if err != nil {
		return "", err
	}
	digest, err := layout.Write(s.Sign.Image.Index, "")
	if err != nil {
		return "", err
	}
	n, err := s.attach(layout)
	if err != nil {
		return "", err
	}
	tag := image.TagFor(s.Version)
	if err := layout.Tag(digest, tag); err != nil {
		return "", err
	}
	where := "OCI layout " + filepath.Join(filepath.Base(s.Out), "oci")
	if reg := s.Config.Publish.Registry; reg != "" {
		ref := reg + ":" + tag
		if _, err := image.Push(ctx, layout, tag, ref, image.PushOptions{Insecure: s.Config.Publish.Insecure}); err != nil {
			return "", err
		}
		where = list(where, ref)
	}
	return fmt.Sprintf("%s:%s with %d referrers", where, tag, n), nil
}

// attach adds signature, provenance, release manifest and signed SBOMs to the
// image, and the SBOMs as they are, for those who look for these.
func (s *Publish) attach(layout *image.Layout) (int, error) {
	type referrer struct{ file, about, kind, predicate string }
	var list []referrer
	statements, err := s.Sign.statements()
	if err != nil {
		return 0, err
	}
	for _, st := range statements {
		list = append(list, referrer{st.file, st.about, bundleType, st.PredicateType})
	}
	for _, b := range s.Sign.Build.Binaries {
		if inv, ok := s.Sign.SBOM.of(b.Path); ok && b.Platform.OS == "linux" {
			list = append(list, referrer{file: inv.CycloneDX, kind: cycloneDXType}, referrer{file: inv.SPDX, kind: spdxType})
		}
	}
	for _, r := range list {
		data, err := readFile(r.file)
		if err != nil {
			return 0, err
		}
		notes := map[string]string{"org.opencontainers.image.title": filepath.Base(r.file)}
		if r.predicate != "" {
			notes["dev.sigstore.bundle.content"] = "dsse-envelope"
			notes["dev.sigstore.bundle.predicateType"] = r.predicate
		}
		if _, err := layout.Attach(cmp.Or(r.about, s.Sign.Image.Digest), r.kind, r.kind, data, notes); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}
