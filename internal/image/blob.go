package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxManifestBytes bounds what is read into memory as a manifest or index.
const maxManifestBytes = 16 << 20

// DigestError reports a file of a layout whose content is not what its name
// and the manifests say: damaged, truncated or tampered with.
type DigestError struct {
	File                string // path of the file
	Want, Got           string // digests
	WantBytes, GotBytes int64
}

// Error names the file and what differs.
func (e *DigestError) Error() string {
	if e.WantBytes != e.GotBytes {
		return fmt.Sprintf("%s has %d bytes instead of %d", e.File, e.GotBytes, e.WantBytes)
	}
	return fmt.Sprintf("%s has the digest %s instead of %s", e.File, e.Got, e.Want)
}

// Hint says what would help.
func (e *DigestError) Hint() string {
	return "the file was changed after it was written; remove it and publish the release again"
}

func (l *Layout) blobPath(h v1.Hash) string {
	return filepath.Join(l.dir, "blobs", h.Algorithm, h.Hex)
}

// open opens a blob after reading it once and comparing digest and size.
func (l *Layout) open(want v1.Hash, size int64) (*os.File, error) {
	path := l.blobPath(want)
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %w", err)
	}
	if err := check(file, want, size); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

func check(file *os.File, want v1.Hash, size int64) error {
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("reading image layout: %w", err)
	}
	if info.Size() != size {
		return &DigestError{File: file.Name(), Want: want.String(), WantBytes: size, GotBytes: info.Size()}
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return fmt.Errorf("reading image layout: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.Hex {
		return &DigestError{File: file.Name(), Want: want.String(), Got: "sha256:" + got, WantBytes: size, GotBytes: size}
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// read reads a small blob whole.
func (l *Layout) read(want v1.Hash, size int64) ([]byte, error) {
	if size > maxManifestBytes {
		return nil, fmt.Errorf("reading image layout: %s: %d bytes are too many for a manifest", l.blobPath(want), size)
	}
	return l.readAny(want, size)
}

// readAny reads a blob of any size whole.
func (l *Layout) readAny(want v1.Hash, size int64) ([]byte, error) {
	path := l.blobPath(want)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %w", err)
	}
	if info.Size() != size {
		return nil, &DigestError{File: path, Want: want.String(), WantBytes: size, GotBytes: info.Size()}
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading image layout: %w", err)
	}
	if got := hashOf(data); got != want {
		return nil, &DigestError{File: path, Want: want.String(), Got: got.String(), WantBytes: size, GotBytes: int64(len(data))}
	}
	return data, nil
}

// put stores a blob. One that is there already stays as it is; one that is
// there and damaged is replaced. The caller holds the lock.
func (l *Layout) put(want v1.Hash, size int64, content io.Reader) error {
	path := l.blobPath(want)
	switch file, err := l.open(want, size); {
	case err == nil:
		return file.Close()
	case errors.As(err, new(*DigestError)), errors.Is(err, fs.ErrNotExist):
	default:
		return err
	}
	sum := sha256.New()
	return l.writeFile(path, func(w io.Writer) error {
		written, err := io.Copy(io.MultiWriter(w, sum), content)
		if got := hex.EncodeToString(sum.Sum(nil)); err == nil && (written != size || got != want.Hex) {
			return &DigestError{File: path, Want: want.String(), Got: "sha256:" + got, WantBytes: size, GotBytes: written}
		}
		return err
	})
}

func (l *Layout) putBytes(data []byte) (v1.Hash, error) {
	h := hashOf(data)
	return h, l.put(h, int64(len(data)), bytes.NewReader(data))
}

const tempPrefix = ".tmp-"

// writeFile replaces a file as a whole: the new content is on the disk before
// it has the name. Temporary files lie in the root of the layout, so that
// blobs/ never holds anything but blobs.
func (l *Layout) writeFile(path string, write func(io.Writer) error) (err error) {
	temp, err := os.CreateTemp(l.dir, tempPrefix)
	if err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	defer func() {
		if err != nil {
			temp.Close()
			os.Remove(temp.Name())
		}
	}()
	if err := write(temp); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	if err := temp.Chmod(0o644); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	if err := temp.Sync(); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	if err := temp.Close(); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	return nil
}

// removeTemp removes what killed writers left. The caller holds the lock, so
// that no living one has temporary files.
func (l *Layout) removeTemp() error {
	files, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("writing image layout: %w", err)
	}
	for _, file := range files {
		if !strings.HasPrefix(file.Name(), tempPrefix) {
			continue
		}
		if err := os.Remove(filepath.Join(l.dir, file.Name())); err != nil {
			return fmt.Errorf("writing image layout: %w", err)
		}
	}
	return nil
}
