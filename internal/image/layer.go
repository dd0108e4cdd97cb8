package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const caPath = "/etc/ssl/certs/ca-certificates.crt"

// reservedNames are the names that the base files have in /.
var reservedNames = map[string]bool{"etc": true, "home": true, "tmp": true, "dev": true, "proc": true, "sys": true, "run": true}

// An entry is one file of a layer; a directory when its name ends in "/".
type entry struct {
	name  string
	mode  int64
	owner int
	data  []byte
}

// baseLayer holds what every image has besides the program.
func baseLayer(bundle []byte, at time.Time) (v1.Layer, error) {
	const passwd = "root:x:0:0:root:/root:/sbin/nologin\n" +
		"nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n" +
		"nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	const group = "root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"
	return newLayer(at,
		entry{name: "etc/", mode: 0o755},
		entry{name: "etc/group", mode: 0o644, data: []byte(group)},
		entry{name: "etc/nsswitch.conf", mode: 0o644, data: []byte("hosts: files dns\n")},
		entry{name: "etc/passwd", mode: 0o644, data: []byte(passwd)},
		entry{name: "etc/ssl/", mode: 0o755},
		entry{name: "etc/ssl/certs/", mode: 0o755},
		entry{name: caPath[1:], mode: 0o644, data: bundle},
		entry{name: "home/", mode: 0o755},
		entry{name: "home/nonroot/", mode: 0o700, owner: 65532},
		entry{name: "tmp/", mode: 0o1777},
	)
}

func binaryLayer(name, path string, at time.Time) (v1.Layer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return newLayer(at, entry{name: name, mode: 0o755, data: data})
}

// layer is a compressed tar in memory.
type layer struct {
	compressed     []byte
	digest, diffID v1.Hash
}

// newLayer writes the entries in the given order. Everything in the tar and
// gzip headers that could differ from run to run is set or left out.
func newLayer(at time.Time, entries ...entry) (v1.Layer, error) {
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.DefaultCompression)
	if err != nil {
		return nil, err
	}
	plain := sha256.New()
	archive := tar.NewWriter(io.MultiWriter(zip, plain))
	for _, e := range entries {
		header := &tar.Header{
			Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.data)),
			ModTime: at, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR,
		}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("writing layer: %w", err)
		}
		if _, err := archive.Write(e.data); err != nil {
			return nil, fmt.Errorf("writing layer: %w", err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("writing layer: %w", err)
	}
	if err := zip.Close(); err != nil {
		return nil, fmt.Errorf("writing layer: %w", err)
	}
	return &layer{
		compressed: out.Bytes(),
		digest:     hashOf(out.Bytes()),
		diffID:     v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))},
	}, nil
}

func hashOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// Digest and the other methods make a layer a v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID is the digest of the tar.
func (l *layer) DiffID() (v1.Hash, error) { return l.diffID, nil }

// Size is the size as stored.
func (l *layer) Size() (int64, error) { return int64(len(l.compressed)), nil }

// MediaType is that of an OCI layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

// Compressed gives the layer as stored.
func (l *layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.compressed)), nil
}

// Uncompressed gives the tar.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	return gzip.NewReader(bytes.NewReader(l.compressed))
}
