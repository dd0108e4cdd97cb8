package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tagAnnotation is where an OCI image layout keeps tags (image-layout.md).
const tagAnnotation = "org.opencontainers.image.ref.name"

// ErrNotFound means that a layout has no such tag or digest.
var ErrNotFound = errors.New("not found")

// Layout is an OCI image layout directory with all versions of a service:
// images by tag, and what refers to them. Any number of processes may read and
// write it at once.
type Layout struct {
	dir   string
	meter *meter // counts the layers that are read during a push
}

// OpenLayout opens the layout in dir, or makes an empty one where nothing is.
// A directory with anything else in it is refused.
func OpenLayout(dir string) (*Layout, error) {
	l := &Layout{dir: dir}
	marker, err := os.ReadFile(filepath.Join(dir, "oci-layout"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := l.create(); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, fmt.Errorf("opening image layout: %w", err)
	default:
		if err := checkMarker(marker); err != nil {
			return nil, fmt.Errorf("opening image layout %s: %w", dir, err)
		}
	}
	if _, err := l.index(); err != nil {
		return nil, err
	}
	return l, nil
}

const layoutMarker = `{"imageLayoutVersion":"1.0.0"}`

func checkMarker(text []byte) error {
	var marker struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := json.Unmarshal(text, &marker); err != nil {
		return fmt.Errorf("reading oci-layout: %w", err)
	}
	if marker.Version != "1.0.0" {
		return fmt.Errorf("version %q of the layout is not known (known: 1.0.0)", marker.Version)
	}
	return nil
}

// create writes oci-layout last: a directory without it is not a layout yet.
func (l *Layout) create() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return fmt.Errorf("creating image layout: %w", err)
	}
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("creating image layout: %w", err)
	}
	known := regexp.MustCompile(`^(blobs|index\.json|oci-layout|\.tmp-.*)$`)
	for _, file := range files {
		if !known.MatchString(file.Name()) {
			return fmt.Errorf("creating image layout: %s is not empty (%s)", l.dir, file.Name())
		}
		if file.Name() == "oci-layout" {
			return nil // somebody else was faster
		}
	}
	if err := os.MkdirAll(filepath.Join(l.dir, "blobs", "sha256"), 0o755); err != nil {
		return fmt.Errorf("creating image layout: %w", err)
	}
	if _, err := os.Stat(l.indexPath()); errors.Is(err, fs.ErrNotExist) {
		empty := &v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{}}
		if err := l.writeIndex(empty); err != nil {
			return err
		}
	}
	return l.writeFile(filepath.Join(l.dir, "oci-layout"), func(w io.Writer) error {
		_, err := io.WriteString(w, layoutMarker)
		return err
	})
}

// Dir is the directory of the layout.
func (l *Layout) Dir() string { return l.dir }

func (l *Layout) indexPath() string { return filepath.Join(l.dir, "index.json") }

func (l *Layout) index() (*v1.IndexManifest, error) {
	text, err := os.ReadFile(l.indexPath())
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %w", err)
	}
	index, err := parseIndex(text)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %s: %w", l.indexPath(), err)
	}
	return index, nil
}

// parseIndex reads an image index and demands of it what we rely on.
func parseIndex(text []byte) (*v1.IndexManifest, error) {
	var index v1.IndexManifest
	dec := json.NewDecoder(bytes.NewReader(text))
	if err := dec.Decode(&index); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the end of the index")
	}
	if index.SchemaVersion != 2 {
		return nil, fmt.Errorf("schema version %d (known: 2)", index.SchemaVersion)
	}
	tags := map[string]bool{}
	for i, d := range index.Manifests {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("manifest %d: %w", i, err)
		}
		if tag := d.Annotations[tagAnnotation]; tag != "" {
			if tags[tag] {
				return nil, fmt.Errorf("manifest %d: the tag %q is there twice", i, tag)
			}
			tags[tag] = true
		}
	}
	return &index, nil
}

func checkDescriptor(d v1.Descriptor) error {
	if d.Digest.Algorithm != "sha256" {
		return fmt.Errorf("digest %q is no SHA-256", d.Digest)
	}
	if d.Size < 0 {
		return fmt.Errorf("size %d", d.Size)
	}
	return nil
}

func (l *Layout) writeIndex(index *v1.IndexManifest) error {
	text, err := json.MarshalIndent(index, "", "  ")
	if err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	return l.writeFile(l.indexPath(), func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// find gives the descriptor of a tag or of a listed digest.
func (l *Layout) find(tagOrDigest string) (v1.Descriptor, error) {
	index, err := l.index()
	if err != nil {
		return v1.Descriptor{}, err
	}
	i := slices.IndexFunc(index.Manifests, func(d v1.Descriptor) bool {
		return d.Annotations[tagAnnotation] == tagOrDigest || d.Digest.String() == tagOrDigest
	})
	if i < 0 || tagOrDigest == "" {
		return v1.Descriptor{}, fmt.Errorf("image layout %s: %q: %w", l.dir, tagOrDigest, ErrNotFound)
	}
	return index.Manifests[i], nil
}

// Resolve gives the digest that a tag stands for. ErrNotFound without one.
func (l *Layout) Resolve(tag string) (digest string, err error) {
	d, err := l.find(tag)
	if err != nil {
		return "", err
	}
	return d.Digest.String(), nil
}

// Tags lists the tags, sorted.
func (l *Layout) Tags() ([]string, error) {
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	var tags []string
	for _, d := range index.Manifests {
		if tag := d.Annotations[tagAnnotation]; tag != "" {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags, nil
}
