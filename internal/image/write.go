package image

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tagForm is the grammar of tags (distribution-spec, "Pulling manifests").
var tagForm = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)

// TagFor is the tag of a version: tags have no "+", so that of build metadata
// becomes "_", as it does for Helm charts.
func TagFor(version string) string { return strings.ReplaceAll(version, "+", "_") }

// Write stores a multi-platform image and returns its digest. The tag comes
// last; with an empty tag the image is only reachable by its digest, until Tag
// is called. Writing the same image again changes nothing; another image under
// the same tag takes the tag over, and the old one stays reachable by digest.
func (l *Layout) Write(image v1.ImageIndex, tag string) (digest string, err error) {
	raw, err := image.RawManifest()
	if err != nil {
		return "", fmt.Errorf("writing image: %w", err)
	}
	descriptor := v1.Descriptor{MediaType: types.OCIImageIndex, Digest: hashOf(raw), Size: int64(len(raw))}
	return l.store(descriptor, tag, func() error {
		manifest, err := image.IndexManifest()
		if err != nil {
			return fmt.Errorf("writing image: %w", err)
		}
		for _, child := range manifest.Manifests {
			img, err := image.Image(child.Digest)
			if err != nil {
				return fmt.Errorf("writing image: %w", err)
			}
			if err := l.putImage(img); err != nil {
				return err
			}
		}
		_, err = l.putBytes(raw)
		return err
	})
}

// putImage stores what an image consists of, its manifest last.
func (l *Layout) putImage(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	for _, layer := range layers {
		if err := l.putLayer(layer); err != nil {
			return err
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	if _, err := l.putBytes(config); err != nil {
		return err
	}
	raw, err := img.RawManifest()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	_, err = l.putBytes(raw)
	return err
}

func (l *Layout) putLayer(layer v1.Layer) error {
	digest, err := layer.Digest()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	size, err := layer.Size()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	content, err := layer.Compressed()
	if err != nil {
		return fmt.Errorf("writing image: %w", err)
	}
	defer content.Close()
	return l.put(digest, size, content)
}

// store writes blobs and then lists the descriptor, under the lock.
func (l *Layout) store(d v1.Descriptor, tag string, blobs func() error) (string, error) {
	if tag != "" && !tagForm.MatchString(tag) {
		return "", fmt.Errorf("writing image: %q is no tag", tag)
	}
	unlock, err := l.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	if err := l.removeTemp(); err != nil {
		return "", err
	}
	if err := blobs(); err != nil {
		return "", err
	}
	return d.Digest.String(), l.list(d, tag)
}

// list enters a descriptor into index.json. The caller holds the lock.
func (l *Layout) list(d v1.Descriptor, tag string) error {
	index, err := l.index()
	if err != nil {
		return err
	}
	before := index.DeepCopy()
	at := -1
	for i := range index.Manifests {
		m := &index.Manifests[i]
		if tag != "" && m.Annotations[tagAnnotation] == tag && m.Digest != d.Digest {
			m.Annotations = withTag(m.Annotations, "")
		}
		// One digest may have several tags, a line each.
		if m.Digest == d.Digest && (at < 0 || m.Annotations[tagAnnotation] == tag) {
			at = i
		}
	}
	switch {
	case at < 0:
		d.Annotations = withTag(d.Annotations, tag)
		index.Manifests = append(index.Manifests, d)
	case tag == "" || index.Manifests[at].Annotations[tagAnnotation] == tag:
	case index.Manifests[at].Annotations[tagAnnotation] == "":
		index.Manifests[at].Annotations = withTag(index.Manifests[at].Annotations, tag)
	default:
		other := index.Manifests[at]
		other.Annotations = withTag(other.Annotations, tag)
		index.Manifests = append(index.Manifests, other)
	}
	if reflect.DeepEqual(before, index) {
		return nil
	}
	return l.writeIndex(index)
}

func withTag(annotations map[string]string, tag string) map[string]string {
	out := maps.Clone(annotations)
	delete(out, tagAnnotation)
	if tag != "" {
		if out == nil {
			out = map[string]string{}
		}
		out[tagAnnotation] = tag
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// Tag gives a listed digest a tag, as the last step of publishing it.
func (l *Layout) Tag(digest, tag string) error {
	if tag == "" {
		return fmt.Errorf("tagging image: %q is no tag", tag)
	}
	d, err := l.find(digest)
	if err != nil {
		return err
	}
	d.Annotations = withTag(d.Annotations, "")
	_, err = l.store(d, tag, func() error { return nil })
	return err
}
