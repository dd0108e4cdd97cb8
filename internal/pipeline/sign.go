package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

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

func (s *Sign) manifest() string { return s.path("release.json") }
func (s *Sign) imageSig() string { return s.path("image.sigstore.json") }

// Run signs what is not yet validly signed.
func (s *Sign) Run(ctx context.Context) (string, error) {
	signer, err := s.signer()
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
	statements, err := s.statements()
	if err != nil {
		return "", err
	}
	made, err := s.bundles(ctx, signer, files, statements)
	if err != nil {
		return "", err
	}
	for _, b := range made {
		if err := writeFile(b.path, b.json); err != nil {
			return "", err
		}
	}
	return list(fmt.Sprintf("%d signatures", len(files)+len(statements)), unchangedIf(len(made) == 0)), nil
}

// bundle is a signature that is not in its file yet.
type bundle struct {
	path string
	json []byte
}

// bundles signs what is not validly signed. Nothing is written before all of it
// is signed: an authority that goes away in between leaves no half of a release.
func (s *Sign) bundles(ctx context.Context, signer *sign.Signer, files []string, statements []statement) ([]bundle, error) {
	var made []bundle
	for _, f := range files {
		b, err := signFile(ctx, signer, f)
		if err != nil {
			return nil, err
		}
		if b != nil {
			made = append(made, bundle{bundlePath(f), b})
		}
	}
	for _, st := range statements {
		b, err := attestFile(ctx, signer, st.file, st.Statement)
		if err != nil {
			return nil, err
		}
		if b != nil {
			made = append(made, bundle{st.file, b})
		}
	}
	return made, nil
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

// signFile signs a file unless the signature beside it holds; then it returns nil.
func signFile(ctx context.Context, signer *sign.Signer, path string) ([]byte, error) {
	if _, err := verified(signer.Verifier(), path); err == nil {
		return nil, nil
	}
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	made, err := signer.Blob(ctx, data)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", path, err)
	}
	return made, nil
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
