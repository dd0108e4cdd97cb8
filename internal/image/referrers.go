package image

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Referrer is something that was attached to an image: a signature, an SBOM.
type Referrer struct {
	Digest       string
	ArtifactType string
	Annotations  map[string]string
	// Content reads what was attached, checked against its digest; whether a
	// signature holds is not checked here.
	Content func() ([]byte, error)
}

// Referrers lists what refers to a digest, in the order in which it was
// attached; nothing for a digest that is not there. *DigestError when a
// manifest of the layout is damaged, whatever it refers to: it might be a
// signature of this image.
func (l *Layout) Referrers(digest string) ([]Referrer, error) {
	want, err := v1.NewHash(digest)
	if err != nil {
		return nil, fmt.Errorf("reading referrers: %w", err)
	}
	all, err := l.allReferrers()
	if err != nil {
		return nil, err
	}
	var list []Referrer
	for _, r := range all[want] {
		list = append(list, Referrer{
			Digest:       r.descriptor.Digest.String(),
			ArtifactType: r.manifest.ArtifactType,
			Annotations:  r.manifest.Annotations,
			Content: func() ([]byte, error) {
				if n := len(r.manifest.Layers); n != 1 {
					return nil, fmt.Errorf("reading referrer %s: %d files instead of one", r.descriptor.Digest, n)
				}
				return l.readAny(r.manifest.Layers[0].Digest, r.manifest.Layers[0].Size)
			},
		})
	}
	return list, nil
}

type referrer struct {
	descriptor v1.Descriptor
	manifest   *v1.Manifest
}

// allReferrers reads every listed manifest and sorts them by their subject.
func (l *Layout) allReferrers() (map[v1.Hash][]referrer, error) {
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	all := map[v1.Hash][]referrer{}
	for _, d := range index.Manifests {
		if !d.MediaType.IsImage() {
			continue
		}
		m, err := l.readManifest(d)
		if err != nil {
			return nil, err
		}
		if m.Subject != nil {
			all[m.Subject.Digest] = append(all[m.Subject.Digest], referrer{d, m})
		}
	}
	return all, nil
}

// closure lists what refers to a manifest, to its platforms, and to what
// refers to these, each after its subject.
func (l *Layout) closure(d v1.Descriptor) ([]v1.Descriptor, error) {
	all, err := l.allReferrers()
	if err != nil {
		return nil, err
	}
	subjects := []v1.Hash{d.Digest}
	if d.MediaType.IsIndex() {
		index, err := l.readIndex(d)
		if err != nil {
			return nil, err
		}
		for _, m := range index.Manifests {
			subjects = append(subjects, m.Digest)
		}
	}
	var list []v1.Descriptor
	seen := map[v1.Hash]bool{}
	for len(subjects) > 0 {
		for _, r := range all[subjects[0]] {
			if !seen[r.descriptor.Digest] {
				seen[r.descriptor.Digest] = true
				list = append(list, r.descriptor)
				subjects = append(subjects, r.descriptor.Digest)
			}
		}
		subjects = subjects[1:]
	}
	return list, nil
}
