package image

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// BundleArtifactType is the type of a referrer that holds a Sigstore bundle.
const BundleArtifactType = "application/vnd.dev.sigstore.bundle.v0.3+json"

const (
	maxReferrers   = 64
	maxBundleBytes = 1 << 20
)

// StoredEBPF is an eBPF object as it lay in an image. Every part has the digest
// by which it is named; whether a signature holds is not checked here.
type StoredEBPF struct {
	EBPF
	Layout  string   // LayoutBPFMan or LayoutGadget
	Digest  string   // of the image
	Bundles [][]byte // Sigstore bundles that refer to the image
}

// PlatformError means that an image has no eBPF object for this kind of machine.
type PlatformError struct {
	Want string
	Have []string
}

func (e *PlatformError) Error() string {
	return fmt.Sprintf("the image has no eBPF object for %s (it has: %s)", e.Want, strings.Join(e.Have, ", "))
}

// ReadEBPF reads an eBPF object from the layout, by tag or digest, for machines
// with the architecture (as GOARCH says it), and what signatures refer to it.
// ErrNotFound, *DigestError, *PlatformError.
func (l *Layout) ReadEBPF(tagOrDigest, arch string) (StoredEBPF, error) {
	d, err := l.find(tagOrDigest)
	if err != nil {
		return StoredEBPF{}, err
	}
	var img v1.Image
	if d.MediaType.IsIndex() {
		var index v1.ImageIndex
		if index, err = l.openIndex(d); err == nil {
			img, err = forArch(index, arch)
		}
	} else {
		img, err = l.openImage(d)
	}
	if err != nil {
		return StoredEBPF{}, err
	}
	stored, err := readEBPF(img)
	if err != nil {
		return StoredEBPF{}, fmt.Errorf("reading %s from image layout %s: %w", tagOrDigest, l.dir, err)
	}
	stored.Digest = d.Digest.String()
	referrers, err := l.Referrers(stored.Digest)
	if err != nil {
		return StoredEBPF{}, err
	}
	for _, r := range referrers {
		if r.ArtifactType != BundleArtifactType {
			continue
		}
		content, err := r.Content()
		if err != nil {
			return StoredEBPF{}, err
		}
		stored.Bundles = append(stored.Bundles, content)
	}
	return stored, nil
}

// AttachBundle stores a Sigstore bundle as a referrer of an image.
func (l *Layout) AttachBundle(subjectDigest string, bundle []byte) (digest string, err error) {
	content := "message-signature"
	if strings.Contains(string(bundle), `"dsseEnvelope"`) {
		content = "dsse-envelope"
	}
	return l.Attach(subjectDigest, BundleArtifactType, BundleArtifactType, bundle, map[string]string{"dev.sigstore.bundle.content": content})
}

// forArch picks the image for an architecture.
func forArch(index v1.ImageIndex, arch string) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var have []string
	for _, d := range manifest.Manifests {
		if d.Platform == nil || d.Platform.Architecture == arch && d.Platform.OS == "linux" {
			return index.Image(d.Digest)
		}
		have = append(have, d.Platform.String())
	}
	return nil, &PlatformError{Want: "linux/" + arch, Have: have}
}

// readEBPF recognizes the layout by the type of the only layer.
func readEBPF(img v1.Image) (StoredEBPF, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return StoredEBPF{}, err
	}
	objects := slices.DeleteFunc(slices.Clone(manifest.Layers), func(d v1.Descriptor) bool {
		return manifest.Config.MediaType == gadgetConfigType && d.MediaType != gadgetProgramType // wasm, btfgen
	})
	if len(objects) != 1 {
		return StoredEBPF{}, fmt.Errorf("%d layers that may hold an eBPF object, want one", len(objects))
	}
	layer, err := img.LayerByDigest(objects[0].Digest)
	if err != nil {
		return StoredEBPF{}, err
	}
	content, err := layer.Compressed() // compares the digest while it is read
	if err != nil {
		return StoredEBPF{}, err
	}
	defer content.Close()
	var s StoredEBPF
	switch objects[0].MediaType {
	case gadgetProgramType:
		s.Layout, s.Name = LayoutGadget, manifest.Annotations[titleAnnotation]
		s.Object, err = readLimited(content, maxEBPF)
	case types.OCILayer, types.DockerLayer:
		s.Layout = LayoutBPFMan
		if err = s.readLabels(img); err == nil {
			s.Name, s.Object, err = readTar(content, s.Name)
		}
	default:
		err = fmt.Errorf("its layer is %s, want one as bpfman or Inspektor Gadget have it", objects[0].MediaType)
	}
	if err != nil {
		return StoredEBPF{}, err
	}
	if !fileName(s.Name) {
		s.Name = "program.bpf.o"
	}
	return s, s.check()
}

func fileName(s string) bool {
	return s != "" && s == filepath.Base(s) && !strings.HasPrefix(s, ".")
}

// readLabels takes what bpfman's labels say of the object.
func (s *StoredEBPF) readLabels(img v1.Image) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	labels := config.Config.Labels
	s.Name, s.Description = labels[labelFilename], labels["org.opencontainers.image.description"]
	for label, into := range map[string]*map[string]string{labelPrograms: &s.Programs, labelMaps: &s.Maps} {
		if labels[label] == "" {
			continue
		}
		if err := json.Unmarshal([]byte(labels[label]), into); err != nil {
			return fmt.Errorf("label %s: %w", label, err)
		}
	}
	return nil
}

// readTar reads the only file of a compressed tar to the end, so that its digest
// is compared; with a name, that file must be the one.
func readTar(content io.Reader, name string) (string, []byte, error) {
	zip, err := gzip.NewReader(content)
	if err != nil {
		return "", nil, err
	}
	limited := &io.LimitedReader{R: zip, N: maxEBPF + 1<<20} // a small file may be a large tar
	archive := tar.NewReader(limited)
	var found string
	var object []byte
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if limited.N <= 0 {
			return "", nil, fmt.Errorf("the layer has more than %d bytes", maxEBPF)
		}
		if err != nil {
			return "", nil, err
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		if found != "" {
			return "", nil, fmt.Errorf("the layer has two files, %s and %s, want one", found, header.Name)
		}
		found = strings.TrimPrefix(filepath.Clean(header.Name), "/")
		if object, err = readLimited(archive, maxEBPF); err != nil {
			return "", nil, err
		}
	}
	if found == "" || name != "" && found != name {
		return "", nil, fmt.Errorf("the layer has the file %q, want %q", found, name)
	}
	for _, rest := range []io.Reader{zip, content} {
		if n, err := io.Copy(io.Discard, io.LimitReader(rest, 1<<20)); err != nil || n == 1<<20 {
			return "", nil, errors.Join(err, errors.New("the layer does not end where its files end"))
		}
	}
	return found, object, nil
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		return nil, fmt.Errorf("more than %d bytes", limit)
	}
	return raw, err
}
