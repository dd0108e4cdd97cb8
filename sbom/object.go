package sbom

import (
	"context"
	"crypto/sha1" //nolint:gosec // SPDX 2.3 demands SHA-1 of files; nothing is trusted by it
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchore/syft/syft/license"
)

// ObjectSpec is what the SBOM of a compiled eBPF object says about it besides
// its digest.
type ObjectSpec struct {
	Name, Version string // required
	// License is an SPDX expression or the kernel's word for the licence
	// ("GPL", "Dual BSD/GPL"); "" is not known.
	//
	// The kernel's words are no SPDX identifiers. "GPL" and "GPL v2" mean
	// version 2 (Documentation/process/license-rules.rst) and are translated;
	// the dual ones do not say which BSD or MPL text they mean, and are kept
	// as a name.
	License string
	// Clang is the compiler's version ("19.1.7") or the line clang leaves in
	// its objects ("Debian clang version 19.1.7 (3)"); "" is not known.
	Clang    string
	Programs []string // names of the programs in the object, in any order
}

// Object returns the SBOM of the compiled eBPF object raw: the object, as a
// library that the kernel loads, with its programs as properties
// (sluice:bpf:program), and the compiler that built it, with scope "excluded"
// because it is no part of what runs. It does not read the object: what raw
// contains is the caller's word, its digest is not.
func Object(ctx context.Context, raw []byte, spec ObjectSpec) (*Documents, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", spec.Name, err)
	}
	switch {
	case spec.Name == "" || spec.Version == "":
		return nil, errors.New("SBOM of an eBPF object: name and version are required")
	case len(raw) == 0:
		return nil, fmt.Errorf("SBOM of %s: the object is empty", spec.Name)
	}
	sum1, sum256 := sha1.Sum(raw), sha256.Sum256(raw) //nolint:gosec // as above
	id := identity{
		name: spec.Name, version: spec.Version,
		sha1: hex.EncodeToString(sum1[:]), sha256: hex.EncodeToString(sum256[:]),
	}
	spec.Programs = slices.Clone(spec.Programs)
	slices.Sort(spec.Programs)
	docs, err := finish(id, spec.cycloneDX(id), spec.spdx(id))
	if err != nil {
		return nil, fmt.Errorf("SBOM of %s: %w", spec.Name, err)
	}
	return docs, nil
}

// licence returns the licence as an SPDX expression or, failing that, as the
// name it was given.
func (o ObjectSpec) licence() (expression, name string) {
	switch o.License {
	case "":
		return "", ""
	case "GPL", "GPL v2":
		return "GPL-2.0-only", ""
	}
	if e, err := license.ParseExpression(o.License); err == nil {
		return e, ""
	}
	return "", o.License
}

// compiler returns clang's version without the words around it: "Debian clang
// version 19.1.7 (3)" is "19.1.7 (3)".
func (o ObjectSpec) compiler() string {
	if _, after, ok := strings.Cut(o.Clang, "clang version "); ok {
		return strings.TrimSpace(after)
	}
	return strings.TrimSpace(o.Clang)
}
