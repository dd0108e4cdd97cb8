package image

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryFlippedByteIsFound flips one byte in each blob, and cuts and
// removes it: whatever reads it must name the file.
func TestEveryFlippedByteIsFound(t *testing.T) {
	ca := certificate(t, 1)
	dir := t.TempDir()
	l := open(t, dir)
	digest := mustPublish(t, l, config(t, ca, "v1.0.0"))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "sha256", "*"))
	if err != nil || len(blobs) < 15 {
		t.Fatalf("%d blobs, %v", len(blobs), err)
	}
	for _, path := range blobs {
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(good)
		flipped[len(flipped)/2] ^= 1
		for name, bad := range map[string][]byte{"flipped": flipped, "cut": good[:len(good)-1], "longer": append(slices.Clone(good), 0)} {
			if err := os.WriteFile(path, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			var de *DigestError
			if err := l.Verify(); !errors.As(err, &de) || de.File != path || de.Hint() == "" {
				t.Errorf("%s %s: %v; want a DigestError about it", path, name, err)
			}
			if err := readAll(l, digest); !errors.As(err, &de) || de.File != path {
				t.Errorf("%s %s: reading gives %v; want a DigestError about it", path, name, err)
			}
			to := open(t, filepath.Join(t.TempDir(), "to"))
			if _, err := l.CopyTo(t.Context(), to, "v1.0.0"); !errors.As(err, &de) {
				t.Errorf("%s %s: copying gives %v; want a DigestError", path, name, err)
			}
			if tags, err := to.Tags(); len(tags) != 0 || err != nil {
				t.Errorf("%s %s: the copy has the tags %v, %v", path, name, tags, err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := l.Verify(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s removed: %v", path, err)
		}
		if err := os.WriteFile(path, good, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWritingAgainMendsADamagedImage(t *testing.T) {
	l := open(t, t.TempDir())
	index := build(t, config(t, certificate(t, 1), "v1.0.0"))
	if _, err := l.Write(index, "v1.0.0"); err != nil {
		t.Fatal(err)
	}
	blobs, err := filepath.Glob(filepath.Join(l.dir, "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range blobs {
		if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if l.Verify() == nil {
		t.Error("the damage is not seen")
	}
	if _, err := l.Write(index, "v1.0.0"); err != nil {
		t.Fatal(err)
	}
	if err := l.Verify(); err != nil {
		t.Error(err)
	}
}

// readAll reads an image with all that refers to it through the public API.
func readAll(l *Layout, digest string) error {
	index, err := l.Image(digest)
	if err != nil {
		return err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, m := range manifest.Manifests {
		img, err := index.Image(m.Digest)
		if err != nil {
			return err
		}
		if _, err := img.ConfigFile(); err != nil {
			return err
		}
		layers, err := img.Layers()
		if err != nil {
			return err
		}
		for _, layer := range layers {
			content, err := layer.Compressed()
			if err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, content); err != nil {
				return err
			}
			content.Close()
		}
	}
	referrers, err := l.Referrers(digest)
	for i := 0; err == nil && i < len(referrers); i++ {
		if _, err = referrers[i].Content(); err != nil {
			return err
		}
		var inner []Referrer
		inner, err = l.Referrers(referrers[i].Digest)
		referrers = append(referrers, inner...)
	}
	if err != nil {
		return err
	}
	// The empty configuration of referrers holds nothing that one could read.
	_, err = l.readAny(hashOf(emptyConfig), 2)
	return err
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	l := open(t, t.TempDir())
	err := l.put(hashOf([]byte("abc")), 3, io.MultiReader(strings.NewReader("ab"), brokenReader{}))
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("error %v; want that of the reader", err)
	}
	if err := l.put(hashOf([]byte("abc")), 3, bytes.NewReader([]byte("abd"))); !errors.As(err, new(*DigestError)) {
		t.Errorf("error %v; want DigestError", err)
	}
	if got := content(t, l.dir); len(got) != 2 {
		t.Errorf("files %v; want the empty layout", got)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrClosedPipe }
