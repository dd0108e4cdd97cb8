package release

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
)

// ExistsError says that another release was already written under this name.
type ExistsError struct {
	Path      string
	Have, Got string // digests of what is there and of what was to be written
}

func (e *ExistsError) Error() string {
	return fmt.Sprintf("writing release %s: a different one is there already (%s, not %s)", e.Path, e.Have, e.Got)
}

// Hint tells what to do instead.
func (e *ExistsError) Hint() string {
	return "a released version never changes: choose a new version, or remove the directory " + filepath.Dir(e.Path)
}

// Save writes r to path and returns its digest. The file appears whole or not
// at all. A release is immutable: the same content again is no error, another
// content is an [*ExistsError].
func Save(path string, r Release) (digest string, err error) {
	raw, err := r.Encode()
	if err != nil {
		return "", err
	}
	switch have, err := os.ReadFile(path); {
	case err == nil && bytes.Equal(have, raw):
		return digestOf(raw), nil
	case err == nil:
		return "", &ExistsError{Path: path, Have: digestOf(have), Got: digestOf(raw)}
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("writing release: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".release-*")
	if err != nil {
		return "", fmt.Errorf("writing release: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(raw)
	err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Link(tmp.Name(), path) // unlike a rename, a link never replaces
	}
	if err != nil {
		return "", fmt.Errorf("writing release %s: %w", path, err)
	}
	return digestOf(raw), syncDir(filepath.Dir(path))
}

// Load reads the release at path and returns it with its digest.
func Load(path string) (r Release, digest string, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Release{}, "", fmt.Errorf("reading release: %w", err)
	}
	r, err = Decode(raw)
	if err != nil {
		return Release{}, "", fmt.Errorf("%s: %w", path, err)
	}
	return r, digestOf(raw), nil
}

// MismatchError says that a file is not the one that was released.
type MismatchError struct {
	Path      string
	Want, Got string // hexadecimal SHA-256
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s is not the released file: sha256 %s, want %s", e.Path, e.Got, e.Want)
}

// VerifyFiles compares every file of r below dir with its digest. Different
// content is a [*MismatchError]; files outside dir are never read, not even
// through a symbolic link.
func (r Release) VerifyFiles(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("verifying release %s: %w", r.Version, err)
	}
	defer root.Close()
	for _, f := range r.Files() {
		if err := verifyFile(root, f); err != nil {
			return fmt.Errorf("verifying release %s: %w", r.Version, err)
		}
	}
	return nil
}

func verifyFile(root *os.Root, f File) error {
	info, err := root.Stat(f.Path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait forever
		return fmt.Errorf("%s is not a regular file", f.Path)
	}
	in, err := root.Open(f.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != f.SHA256 {
		return &MismatchError{Path: f.Path, Want: f.SHA256, Got: got}
	}
	return nil
}

// syncDir makes a new name in dir survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing directory %s: %w", dir, err)
	}
	return nil
}
