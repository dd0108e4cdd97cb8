package image

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// CopyTo publishes a tag into another layout, as Push does into a registry:
// the image by digest, what refers to it, the tag last. It returns the digest.
func (l *Layout) CopyTo(ctx context.Context, to *Layout, tag string) (digest string, err error) {
	d, err := l.find(tag)
	if err != nil {
		return "", err
	}
	referrers, err := l.closure(d)
	if err != nil {
		return "", err
	}
	d.Annotations = withTag(d.Annotations, "")
	for _, part := range append([]v1.Descriptor{d}, referrers...) {
		if err := ctx.Err(); err != nil {
			return "", fmt.Errorf("copying %s to %s: %w", tag, to.dir, err)
		}
		if _, err := to.store(part, "", func() error {
			return l.walk(part, func(d v1.Descriptor) error { return l.copyBlob(d, to) })
		}); err != nil {
			return "", fmt.Errorf("copying %s to %s: %w", tag, to.dir, err)
		}
	}
	return d.Digest.String(), to.Tag(d.Digest.String(), tag)
}

func (l *Layout) copyBlob(d v1.Descriptor, to *Layout) error {
	file, err := l.open(d.Digest, d.Size)
	if err != nil {
		return err
	}
	defer file.Close()
	return to.put(d.Digest, d.Size, file)
}
