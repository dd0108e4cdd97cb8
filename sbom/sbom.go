// Package sbom says what is inside an artifact: one inventory, written as
// CycloneDX 1.6 JSON and as SPDX 2.3 JSON.
//
// It promises three things. The same artifact under the same name and version
// gives the same bytes, on every run, in every directory and beside any other
// run: nothing in a document comes from a clock, a random number or a path of
// the machine. Both documents carry the SHA-256 of their artifact, which
// [Subject] reads back, so that an SBOM of something else is found out. And an
// SBOM is never empty: an artifact in which nothing is found is an error.
//
// Go binaries are read with Syft's Go cataloger. Licences come from the Go
// module cache, offline: a licence is recorded only when the cache holds
// exactly the module that the binary names (same h1 checksum as go.sum), so
// the cache can leave licences out but cannot change them. A module that is
// not in the cache is recorded without a licence and named in
// [Documents].Unlicensed; on the machine that built the binary there is none.
//
// Signing the documents and judging them is left to others.
package sbom

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// Documents is one inventory in both formats.
type Documents struct {
	// CycloneDX is a CycloneDX 1.6 document, indented JSON.
	CycloneDX []byte
	// SPDX is an SPDX 2.3 document, indented JSON.
	SPDX []byte
	// Components is the number of components in the inventory, at least 1.
	Components int
	// Unlicensed names the modules (path@version, sorted) for which no licence
	// was found. The artifact's own main module is not among them.
	Unlicensed []string
}

// NoComponentsError says that nothing was found in an artifact, so that there
// can be no SBOM of it.
type NoComponentsError struct {
	Path   string // as given
	Packed bool   // the file is packed with UPX, which hides what is inside
}

func (e *NoComponentsError) Error() string {
	if e.Packed {
		return fmt.Sprintf("SBOM of %s: the file is packed with UPX, which hides its components", e.Path)
	}
	return fmt.Sprintf("SBOM of %s: no components found", e.Path)
}

// Hint says which file would have worked.
func (e *NoComponentsError) Hint() string {
	if e.Packed {
		return "make the SBOM from the binary as it was before it was packed"
	}
	return "name a binary built by Go in module mode, with its build information left in"
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Subject returns the SHA-256, 64 lower-case hexadecimal digits, of the
// artifact that a CycloneDX document says it describes. A document that names
// no SHA-256, or more than one, is an error. The document is not
// authenticated: check its signature first.
func Subject(cyclonedx []byte) (string, error) {
	var doc struct {
		BOMFormat string `json:"bomFormat"`
		Metadata  struct {
			Component struct {
				Hashes []struct {
					Alg     string `json:"alg"`
					Content string `json:"content"`
				} `json:"hashes"`
			} `json:"component"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(cyclonedx, &doc); err != nil {
		return "", fmt.Errorf("reading SBOM: %w", err)
	}
	if doc.BOMFormat != "CycloneDX" {
		return "", fmt.Errorf("reading SBOM: bomFormat is %q, not CycloneDX", doc.BOMFormat)
	}
	subject := ""
	for _, h := range doc.Metadata.Component.Hashes {
		if h.Alg != "SHA-256" {
			continue
		}
		if subject != "" {
			return "", errors.New("reading SBOM: more than one SHA-256 for the artifact it describes")
		}
		if !sha256Hex.MatchString(h.Content) {
			return "", fmt.Errorf("reading SBOM: %q is no SHA-256", h.Content)
		}
		subject = h.Content
	}
	if subject == "" {
		return "", errors.New("reading SBOM: no SHA-256 of the artifact it describes")
	}
	return subject, nil
}
