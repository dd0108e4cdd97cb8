// Package release holds what was built and what became of it: the manifest of
// a release, and the ledger of every rollout.
//
// A [Release] is immutable and content-addressed. Its encoding is canonical, so
// the digest of the file and the digest of the value are the same thing.
//
// A [Ledger] is append-only and hash-chained. Each append is synced to the disk
// before it is reported as done; a line that was being written when the power
// or the process went is cut and reported; any other damage is a
// [CorruptError] and is never repaired. The history can be read by anyone,
// without a lock, while a rollout writes. A [Shared] ledger is the same chain in
// a place that has no files and several writers; [Log] is either of the two.
//
// The package reads no clock and knows nothing of signatures, of traffic or of
// how a verdict came about: callers bring times, digests and words.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Release is what one version consists of. All paths are relative to the
// release's own directory, with forward slashes.
type Release struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`          // Semantic Versioning 2.0.0, with or without a leading v
	Commit    string            `json:"commit,omitempty"` // of the source; empty outside a repository
	Artifacts []Artifact        `json:"artifacts"`        // one for each platform, at least one
	Image     string            `json:"image,omitempty"`  // "sha256:<hex>" of the image index
	SBOMs     []File            `json:"sboms,omitempty"`
	Object    *File             `json:"object,omitempty"` // the eBPF object that observes this release
	Args      []string          `json:"args,omitempty"`   // what the service is started with
	Env       map[string]string `json:"env,omitempty"`
}

// Artifact is the binary for one platform. The unpacked file is the one that
// is run, put into the image and described by the SBOM.
type Artifact struct {
	Platform string `json:"platform"` // "linux/arm64"
	File
	Packed *File `json:"packed,omitempty"` // only when packing was worth it
}

// File names one file of a release and its content.
type File struct {
	Path      string `json:"path"`
	SHA256    string `json:"sha256"` // 64 lower-case hexadecimal digits
	SizeBytes int64  `json:"size_bytes"`
}

// Encode returns the canonical JSON of r: sorted, indented, with a final line
// feed. Two equal releases have the same bytes, whatever order their lists were
// made in. A release that breaks a rule is an [*InvalidError].
func (r Release) Encode() ([]byte, error) {
	r = r.sorted()
	if problems := r.problems(); len(problems) > 0 {
		return nil, &InvalidError{Release: r.Version, Problems: problems}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(r); err != nil {
		return nil, fmt.Errorf("encoding release %s: %w", r.Version, err)
	}
	return out.Bytes(), nil
}

// Digest returns "sha256:<hex>" of the canonical encoding.
func (r Release) Digest() (string, error) {
	raw, err := r.Encode()
	if err != nil {
		return "", err
	}
	return digestOf(raw), nil
}

// Files returns every file that r names, in the order of the manifest.
func (r Release) Files() []File {
	var files []File
	for _, a := range r.Artifacts {
		files = append(files, a.File)
		if a.Packed != nil {
			files = append(files, *a.Packed)
		}
	}
	files = append(files, r.SBOMs...)
	if r.Object != nil {
		files = append(files, *r.Object)
	}
	return files
}

// Decode reads a manifest. It refuses unknown fields, broken rules and any
// bytes but the canonical ones, so that what was signed is what is meant.
func Decode(raw []byte) (Release, error) {
	var r Release
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Release{}, fmt.Errorf("decoding release manifest: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Release{}, errors.New("decoding release manifest: more than one JSON value")
	}
	canonical, err := r.Encode()
	if err != nil {
		return Release{}, fmt.Errorf("decoding release manifest: %w", err)
	}
	if !bytes.Equal(canonical, raw) {
		return Release{}, errors.New("decoding release manifest: not in canonical form")
	}
	return r, nil
}

// sorted returns r with lists in canonical order; r's own lists stay as they are.
func (r Release) sorted() Release {
	r.Artifacts = slices.SortedStableFunc(slices.Values(r.Artifacts), func(a, b Artifact) int {
		return strings.Compare(a.Platform, b.Platform)
	})
	r.SBOMs = slices.SortedStableFunc(slices.Values(r.SBOMs), func(a, b File) int {
		return strings.Compare(a.Path, b.Path)
	})
	r.Env = maps.Clone(r.Env)
	return r
}

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}
