package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/sign"
)

// Sign writes the release manifest and signs everything that leaves the
// machine: binaries, SBOMs, the probe object, the manifest, the image, and how
// it all was made.
type Sign struct {
	Job
	Build  *Build
	Pack   *Pack
	SBOM   *SBOM
	Object *Object
	Image  *Image

	Release release.Release
}

func (*Sign) String() string { return "sign" }

func (s *Sign) manifest() string   { return s.path("release.json") }
func (s *Sign) provenance() string { return s.path("provenance.sigstore.json") }
func (s *Sign) imageSig() string   { return s.path("image.sigstore.json") }

// Run signs what is not yet validly signed.
func (s *Sign) Run(ctx context.Context) (string, error) {
	signer, err := s.signer()
	if err != nil {
		return "", err
	}
	v, err := sign.NewVerifier(signer.PublicPEM())
	if err != nil {
		return "", err
	}
	if s.Release, err = s.describe(); err != nil {
		return "", err
	}
	if err := s.save(); err != nil {
		return "", err
	}
	files := []string{s.manifest()}
	for _, f := range s.Release.Files() {
		if path := s.path(f.Path); path != s.Object.file() || !s.Object.foreign() {
			files = append(files, path)
		}
	}
	made := 0
	for _, f := range files {
		n, err := signFile(ctx, signer, v, f)
		if err != nil {
			return "", err
		}
		made += n
	}
	n, err := s.attest(ctx, signer, v)
	if err != nil {
		return "", err
	}
	made += n
	return list(fmt.Sprintf("%d signatures", len(files)+2), unchangedIf(made == 0)), nil
}

// describe is the release as it lies in the out folder.
func (s *Sign) describe() (release.Release, error) {
	r := release.Release{
		Name: s.Config.Name, Version: s.Version, Commit: s.Commit, Image: s.Image.Digest,
		Args: s.Config.Service.Args, Env: s.Config.Service.Env,
	}
	for i, b := range s.Build.Binaries {
		f, err := s.file(b.Path)
		if err != nil {
			return r, err
		}
		a := release.Artifact{Platform: b.Platform.String(), File: f}
		if i < len(s.Pack.Results) && s.Pack.Results[i].Packed {
			p, err := s.file(s.Pack.Results[i].Path)
			if err != nil {
				return r, err
			}
			a.Packed = &p
		}
		r.Artifacts = append(r.Artifacts, a)
	}
	for _, path := range inventoryPaths(s.SBOM.Docs) {
		f, err := s.file(path)
		if err != nil {
			return r, err
		}
		r.SBOMs = append(r.SBOMs, f)
	}
	object, err := s.file(s.Object.file())
	r.Object = &object
	return r, err
}

func (s *Sign) file(path string) (release.File, error) {
	rel, err := filepath.Rel(s.Dir(), path)
	if err != nil {
		return release.File{}, fmt.Errorf("describing the release: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return release.File{}, fmt.Errorf("describing the release: %w", err)
	}
	sum, err := fileSHA256(path)
	return release.File{Path: filepath.ToSlash(rel), SHA256: sum, SizeBytes: info.Size()}, err
}

// save writes the manifest. A version that was promoted never changes; one that
// never was may be made again.
func (s *Sign) save() error {
	_, err := release.Save(s.manifest(), s.Release)
	var exists *release.ExistsError
	if !errors.As(err, &exists) {
		return err
	}
	history, histErr := history(s.Out)
	if histErr != nil {
		return histErr
	}
	if _, promoted := release.Find(history, s.Version); promoted {
		return err
	}
	if err := os.Remove(s.manifest()); err != nil {
		return fmt.Errorf("replacing the manifest of %s: %w", s.Version, err)
	}
	_, err = release.Save(s.manifest(), s.Release)
	return err
}

// attest signs the image digest and the provenance of everything.
func (s *Sign) attest(ctx context.Context, signer *sign.Signer, v *sign.Verifier) (made int, err error) {
	image := sign.Subject{Name: s.Config.Name, SHA256: bare(s.Image.Digest)}
	n, err := attestFile(ctx, signer, v, s.imageSig(), sign.Statement{
		Subjects: []sign.Subject{image}, PredicateType: sign.PredicateImage, Predicate: struct{}{},
	})
	if err != nil {
		return 0, err
	}
	subjects := []sign.Subject{image}
	for _, a := range s.Release.Artifacts {
		subjects = append(subjects, sign.Subject{Name: a.Path, SHA256: a.SHA256})
	}
	m, err := attestFile(ctx, signer, v, s.provenance(), sign.Statement{
		Subjects: subjects, PredicateType: sign.PredicateProvenance,
		Predicate: sign.Provenance(sign.ProvenanceInput{
			Main: s.Config.Build.Main, Version: s.Version, Commit: s.Commit, GoVersion: runtime.Version(),
			Parameters: map[string]string{
				"platforms": strings.Join(s.Config.Build.Platforms, ","), "tags": strings.Join(s.Config.Build.Tags, ","),
			},
		}),
	})
	return n + m, err
}

// signFile signs a file unless the signature beside it holds. It returns how
// many signatures it made.
func signFile(ctx context.Context, signer *sign.Signer, v *sign.Verifier, path string) (int, error) {
	if _, err := verified(v, path); err == nil {
		return 0, nil
	}
	data, err := readFile(path)
	if err != nil {
		return 0, err
	}
	bundle, err := signer.Blob(ctx, data)
	if err != nil {
		return 0, fmt.Errorf("signing %s: %w", path, err)
	}
	return 1, writeFile(bundlePath(path), bundle)
}

// attestFile writes a signed statement unless the one that is there holds and
// says the same.
func attestFile(ctx context.Context, signer *sign.Signer, v *sign.Verifier, path string, st sign.Statement) (int, error) {
	want, err := json.Marshal(st.Predicate)
	if err != nil {
		return 0, fmt.Errorf("encoding a statement: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && holds(v, old, st, want) {
		return 0, nil
	}
	bundle, err := signer.Attest(ctx, st)
	if err != nil {
		return 0, fmt.Errorf("signing %s: %w", filepath.Base(path), err)
	}
	return 1, writeFile(path, bundle)
}

func holds(v *sign.Verifier, bundle []byte, st sign.Statement, want []byte) bool {
	for _, subject := range st.Subjects {
		got, err := v.Attestation(bundle, subject.SHA256, st.PredicateType)
		if err != nil || !sameJSON(got, want) {
			return false
		}
	}
	return true
}

func sameJSON(a, b []byte) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	xs, _ := json.Marshal(x)
	ys, _ := json.Marshal(y)
	return bytes.Equal(xs, ys)
}

// history reads the ledger of an out folder; no ledger is an empty one.
func history(out string) ([]release.Record, error) {
	list, err := release.ReadHistory(ledgerPath(out))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return list, err
}

func ledgerPath(out string) string { return filepath.Join(out, "ledger.jsonl") }

func readFile(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading what was made: %w", err)
	}
	return data, nil
}
