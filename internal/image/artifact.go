package image

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A File is one file of an artifact.
type File struct {
	Name      string // the file's name, without directory
	MediaType string // "" means application/octet-stream
	Content   []byte
}

// WriteArtifact stores files that are not an image, such as a compiled eBPF
// object, as an OCI artifact of the given type, and returns its digest. What
// Write says about tags and repetition holds here too.
func (l *Layout) WriteArtifact(tag, artifactType string, files ...File) (digest string, err error) {
	if len(files) == 0 {
		return "", fmt.Errorf("writing artifact %s: no file", tag)
	}
	names := map[string]bool{}
	for _, f := range files {
		if names[f.Name] || f.Name != filepath.Base(f.Name) || strings.HasPrefix(f.Name, ".") {
			return "", fmt.Errorf("writing artifact %s: %q does not do for a file in it", tag, f.Name)
		}
		names[f.Name] = true
	}
	return l.writeManifest(tag, artifactManifest{artifactType: artifactType, files: files})
}

// Attach stores content as an OCI referrer of an image, a manifest or another
// referrer in the layout: a signature, an SBOM, a verdict. It returns the
// digest of the referrer. The same content again changes nothing. ErrNotFound
// when the layout does not have the subject.
func (l *Layout) Attach(subjectDigest, artifactType, mediaType string, content []byte, annotations map[string]string) (digest string, err error) {
	subject, err := l.describe(subjectDigest)
	if err != nil {
		return "", err
	}
	return l.writeManifest("", artifactManifest{
		artifactType: artifactType, annotations: annotations, subject: &subject,
		files: []File{{MediaType: mediaType, Content: content}},
	})
}

// describe gives the descriptor of a manifest that is listed, or that a listed
// index names.
func (l *Layout) describe(digest string) (v1.Descriptor, error) {
	index, err := l.index()
	if err != nil {
		return v1.Descriptor{}, err
	}
	bare := func(d v1.Descriptor) v1.Descriptor {
		return v1.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	}
	is := func(d v1.Descriptor) bool { return d.Digest.String() == digest }
	if i := slices.IndexFunc(index.Manifests, is); i >= 0 {
		return bare(index.Manifests[i]), nil
	}
	for _, d := range index.Manifests {
		if !d.MediaType.IsIndex() {
			continue
		}
		inner, err := l.readIndex(d)
		if err != nil {
			return v1.Descriptor{}, err
		}
		if i := slices.IndexFunc(inner.Manifests, is); i >= 0 {
			return bare(inner.Manifests[i]), nil
		}
	}
	return v1.Descriptor{}, fmt.Errorf("image layout %s: %q: %w", l.dir, digest, ErrNotFound)
}

// artifactManifest is what the manifest of an artifact is made from.
type artifactManifest struct {
	artifactType string
	annotations  map[string]string
	subject      *v1.Descriptor
	files        []File
}

// emptyConfig is the content of application/vnd.oci.empty.v1+json.
var emptyConfig = []byte("{}")

const (
	emptyType       = "application/vnd.oci.empty.v1+json"
	titleAnnotation = "org.opencontainers.image.title"
)

func (l *Layout) writeManifest(tag string, a artifactManifest) (string, error) {
	if a.artifactType == "" {
		return "", fmt.Errorf("writing artifact %s: no artifact type", tag)
	}
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     types.OCIManifestSchema1,
		ArtifactType:  a.artifactType,
		Config:        v1.Descriptor{MediaType: emptyType, Digest: hashOf(emptyConfig), Size: int64(len(emptyConfig))},
		Annotations:   a.annotations,
		Subject:       a.subject,
	}
	for _, f := range a.files {
		d := v1.Descriptor{MediaType: types.MediaType(f.MediaType), Digest: hashOf(f.Content), Size: int64(len(f.Content))}
		if d.MediaType == "" {
			d.MediaType = "application/octet-stream"
		}
		if f.Name != "" {
			d.Annotations = map[string]string{titleAnnotation: f.Name}
		}
		manifest.Layers = append(manifest.Layers, d)
	}
	raw, err := json.Marshal(manifest)
	if err != nil {
		return "", fmt.Errorf("writing artifact: %w", err)
	}
	d := v1.Descriptor{
		MediaType: manifest.MediaType, Digest: hashOf(raw), Size: int64(len(raw)),
		ArtifactType: a.artifactType, Annotations: withTag(a.annotations, ""),
	}
	return l.store(d, tag, func() error {
		for _, content := range append([][]byte{emptyConfig}, contents(a.files)...) {
			if _, err := l.putBytes(content); err != nil {
				return err
			}
		}
		return l.put(d.Digest, d.Size, bytes.NewReader(raw))
	})
}

func contents(files []File) [][]byte {
	var all [][]byte
	for _, f := range files {
		all = append(all, f.Content)
	}
	return all
}

// ReadArtifact gives the files that WriteArtifact stored, by name, and the
// digest of the artifact. *DigestError for a damaged file, ErrNotFound.
func (l *Layout) ReadArtifact(tagOrDigest string) (files map[string][]byte, digest string, err error) {
	d, err := l.find(tagOrDigest)
	if err != nil {
		return nil, "", err
	}
	manifest, err := l.readManifest(d)
	if err != nil {
		return nil, "", err
	}
	files = map[string][]byte{}
	for _, f := range manifest.Layers {
		name := f.Annotations[titleAnnotation]
		if _, twice := files[name]; name == "" || twice {
			return nil, "", fmt.Errorf("reading artifact %s: no file names, or one twice: not an artifact with files", tagOrDigest)
		}
		if files[name], err = l.readAny(f.Digest, f.Size); err != nil {
			return nil, "", err
		}
	}
	return files, d.Digest.String(), nil
}
