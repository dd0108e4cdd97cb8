package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image gives a stored multi-platform image, by tag or digest. What is read
// from it later is checked when it is read.
func (l *Layout) Image(tagOrDigest string) (v1.ImageIndex, error) {
	d, err := l.find(tagOrDigest)
	if err != nil {
		return nil, err
	}
	return l.openIndex(d)
}

// Verify reads everything that the layout lists and checks its digest. It
// reports every problem: *DigestError, or fs.ErrNotExist for a missing file.
func (l *Layout) Verify() error {
	index, err := l.index()
	if err != nil {
		return err
	}
	var errs []error
	for _, d := range index.Manifests {
		errs = append(errs, l.walk(d, func(d v1.Descriptor) error {
			file, err := l.open(d.Digest, d.Size)
			if err != nil {
				return err
			}
			return file.Close()
		}))
	}
	return errors.Join(errs...)
}

// walk visits a manifest and all that it consists of, parts before the whole.
func (l *Layout) walk(d v1.Descriptor, visit func(v1.Descriptor) error) error {
	switch {
	case d.MediaType.IsIndex():
		index, err := l.readIndex(d)
		if err != nil {
			return err
		}
		for _, m := range index.Manifests {
			if err := l.walk(m, visit); err != nil {
				return err
			}
		}
	case d.MediaType.IsImage():
		manifest, err := l.readManifest(d)
		if err != nil {
			return err
		}
		for _, part := range slices.Concat(manifest.Layers, []v1.Descriptor{manifest.Config}) {
			if err := visit(part); err != nil {
				return err
			}
		}
	}
	return visit(d)
}

func (l *Layout) readIndex(d v1.Descriptor) (*v1.IndexManifest, error) {
	raw, err := l.read(d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	index, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %s: %w", l.blobPath(d.Digest), err)
	}
	for _, m := range index.Manifests {
		if m.MediaType.IsIndex() {
			return nil, fmt.Errorf("reading image layout: %s: an index inside an index", l.blobPath(d.Digest))
		}
	}
	return index, nil
}

func (l *Layout) readManifest(d v1.Descriptor) (*v1.Manifest, error) {
	raw, err := l.read(d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	manifest, err := parseManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %s: %w", l.blobPath(d.Digest), err)
	}
	return manifest, nil
}

// parseManifest reads an image manifest and demands of it what we rely on.
func parseManifest(raw []byte) (*v1.Manifest, error) {
	var manifest v1.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return nil, err
	}
	parts := append([]v1.Descriptor{manifest.Config}, manifest.Layers...)
	if manifest.Subject != nil {
		parts = append(parts, *manifest.Subject)
	}
	for _, part := range parts {
		if err := checkDescriptor(part); err != nil {
			return nil, err
		}
	}
	return &manifest, nil
}

// storedIndex is a v1.ImageIndex in a layout.
type storedIndex struct {
	layout     *Layout
	descriptor v1.Descriptor
	manifest   *v1.IndexManifest
}

func (l *Layout) openIndex(d v1.Descriptor) (*storedIndex, error) {
	if !d.MediaType.IsIndex() {
		return nil, fmt.Errorf("image layout %s: %s is no image of several platforms (%s)", l.dir, d.Digest, d.MediaType)
	}
	manifest, err := l.readIndex(d)
	if err != nil {
		return nil, err
	}
	return &storedIndex{l, d, manifest}, nil
}

func (i *storedIndex) MediaType() (types.MediaType, error)       { return i.descriptor.MediaType, nil }
func (i *storedIndex) Digest() (v1.Hash, error)                  { return i.descriptor.Digest, nil }
func (i *storedIndex) Size() (int64, error)                      { return i.descriptor.Size, nil }
func (i *storedIndex) IndexManifest() (*v1.IndexManifest, error) { return i.manifest.DeepCopy(), nil }

func (i *storedIndex) RawManifest() ([]byte, error) {
	return i.layout.read(i.descriptor.Digest, i.descriptor.Size)
}

func (i *storedIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	return nil, fmt.Errorf("image index %s: %s: %w", i.descriptor.Digest, h, ErrNotFound)
}

func (i *storedIndex) Image(h v1.Hash) (v1.Image, error) {
	for _, d := range i.manifest.Manifests {
		if d.Digest == h {
			return i.layout.openImage(d)
		}
	}
	return nil, fmt.Errorf("image index %s: %s: %w", i.descriptor.Digest, h, ErrNotFound)
}

// storedImage is the core of a v1.Image in a layout.
type storedImage struct {
	layout     *Layout
	descriptor v1.Descriptor
	manifest   *v1.Manifest
}

func (l *Layout) openImage(d v1.Descriptor) (v1.Image, error) {
	manifest, err := l.readManifest(d)
	if err != nil {
		return nil, err
	}
	return partial.CompressedToImage(&storedImage{l, d, manifest})
}

func (i *storedImage) MediaType() (types.MediaType, error) { return i.descriptor.MediaType, nil }
func (i *storedImage) RawManifest() ([]byte, error) {
	return i.layout.read(i.descriptor.Digest, i.descriptor.Size)
}

func (i *storedImage) RawConfigFile() ([]byte, error) {
	return i.layout.read(i.manifest.Config.Digest, i.manifest.Config.Size)
}

func (i *storedImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range slices.Concat(i.manifest.Layers, []v1.Descriptor{i.manifest.Config}) {
		if d.Digest == h {
			return &storedLayer{i.layout, d}, nil
		}
	}
	return nil, fmt.Errorf("image %s: layer %s: %w", i.descriptor.Digest, h, ErrNotFound)
}

// storedLayer is a blob of a layout.
type storedLayer struct {
	layout     *Layout
	descriptor v1.Descriptor
}

func (s *storedLayer) Digest() (v1.Hash, error)            { return s.descriptor.Digest, nil }
func (s *storedLayer) Size() (int64, error)                { return s.descriptor.Size, nil }
func (s *storedLayer) MediaType() (types.MediaType, error) { return s.descriptor.MediaType, nil }
func (s *storedLayer) Compressed() (io.ReadCloser, error) {
	file, err := s.layout.open(s.descriptor.Digest, s.descriptor.Size)
	switch {
	case err != nil:
		return nil, err
	case s.layout.meter == nil:
		return file, nil
	}
	return metered{file, s.layout.meter}, nil
}
