package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/sign"
)

// statement is a signed statement that goes into the registry with the image.
type statement struct {
	sign.Statement
	file  string // where its bundle is
	about string // digest of the image, or of that of one platform, to which it is attached
}

// statements are all that a registry has to have so that the release can be
// verified there, by those who have no out folder.
func (s *Sign) statements() ([]statement, error) {
	image := sign.Subject{Name: s.Config.Name, SHA256: bare(s.Image.Digest)}
	all := []statement{
		{
			file:      s.imageSig(),
			Statement: sign.Statement{Subjects: []sign.Subject{image}, PredicateType: sign.PredicateImage, Predicate: struct{}{}},
		},
		{file: s.path("provenance.sigstore.json"), Statement: s.provenance(image)},
	}
	release, err := s.releaseStatement(image)
	if err != nil {
		return nil, err
	}
	sboms, err := s.sbomStatements()
	if err != nil {
		return nil, err
	}
	all = append(append(all, release), sboms...)
	for i := range all {
		if all[i].about == "" {
			all[i].about = s.Image.Digest
		}
	}
	return all, nil
}

// made are the files that a release consists of, as subjects.
func (s *Sign) made(image sign.Subject) []sign.Subject {
	list := []sign.Subject{image}
	for _, a := range s.Release.Artifacts {
		list = append(list, sign.Subject{Name: a.Path, SHA256: a.SHA256})
	}
	return list
}

func (s *Sign) provenance(image sign.Subject) sign.Statement {
	return sign.Statement{
		Subjects: s.made(image), PredicateType: sign.PredicateProvenance,
		Predicate: sign.Provenance(sign.ProvenanceInput{
			Main: s.Config.Build.Main, Version: s.Version, Commit: s.Commit, GoVersion: runtime.Version(),
			Parameters: map[string]string{
				"platforms": strings.Join(s.Config.Build.Platforms, ","), "tags": strings.Join(s.Config.Build.Tags, ","),
			},
		}),
	}
}

// releaseStatement is the release manifest as a statement about all that it names.
func (s *Sign) releaseStatement(of sign.Subject) (statement, error) {
	raw, err := s.Release.Encode()
	return statement{file: s.path("release.intoto.sigstore.json"), Statement: sign.Statement{
		Subjects:      append(s.made(of), sign.Subject{Name: s.Release.Object.Path, SHA256: s.Release.Object.SHA256}),
		PredicateType: image.PredicateRelease, Predicate: json.RawMessage(raw),
	}}, err
}

// sbomStatements are the SBOMs of the binaries in the image, each about the
// binary and the image of its platform, and those of the probe object.
func (s *Sign) sbomStatements() ([]statement, error) {
	var all []statement
	add := func(of, about string, subjects ...sign.Subject) error {
		inv, ok := s.SBOM.of(of)
		if !ok {
			return fmt.Errorf("there is no SBOM of %s", of)
		}
		for _, doc := range []struct{ path, predicate string }{{inv.CycloneDX, sign.PredicateCycloneDX}, {inv.SPDX, sign.PredicateSPDX}} {
			raw, err := readFile(doc.path)
			if err != nil {
				return err
			}
			all = append(all, statement{file: doc.path + ".intoto.sigstore.json", about: about, Statement: sign.Statement{
				Subjects: subjects, PredicateType: doc.predicate, Predicate: json.RawMessage(raw),
			}})
		}
		return nil
	}
	for _, b := range s.Build.Binaries {
		digest, ok := s.Image.of(b.Platform)
		if !ok {
			continue
		}
		name := s.Config.Name + "@" + b.Platform.String()
		if err := add(b.Path, digest, sign.Subject{Name: name, SHA256: bare(digest)}, sign.Subject{Name: filepath.Base(b.Path), SHA256: bare(b.Digest)}); err != nil {
			return nil, err
		}
	}
	return all, add(s.Object.file(), "", sign.Subject{Name: s.Release.Object.Path, SHA256: s.Release.Object.SHA256})
}

// attestFile signs a statement unless the one that is there holds and says the
// same; then it returns nil.
func attestFile(ctx context.Context, signer *sign.Signer, path string, st sign.Statement) ([]byte, error) {
	want, err := json.Marshal(st.Predicate)
	if err != nil {
		return nil, fmt.Errorf("encoding a statement: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && holds(signer.Verifier(), old, st, want) {
		return nil, nil
	}
	made, err := signer.Attest(ctx, st)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", filepath.Base(path), err)
	}
	return made, nil
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
