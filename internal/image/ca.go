package image

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// hostBundles are the places where distributions keep their bundle.
var hostBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine, Arch
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
	"/etc/ssl/ca-bundle.pem",                            // SUSE
	"/etc/ssl/cert.pem",                                 // macOS, BSD
}

// CAError reports that there is no usable certificate bundle.
type CAError struct {
	Path string // "" when no bundle of the machine was found
	Err  error
}

// Error names the file.
func (e *CAError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("certificate authorities for the image: %v", e.Err)
	}
	return fmt.Sprintf("certificate authorities for the image: %s: %v", e.Path, e.Err)
}

// Unwrap gives the cause.
func (e *CAError) Unwrap() error { return e.Err }

// Hint says what would help.
func (e *CAError) Hint() string {
	return "install the package ca-certificates, or name a PEM file with certificates"
}

// CABundle reads the certificates of a PEM file, or of the bundle of this
// machine when path is empty. It returns them in an order and form that depend
// on nothing but the set of certificates, and the digest ("sha256:…") of that.
// Errors are *CAError.
func CABundle(path string) (bundle []byte, digest string, err error) {
	text, path, err := readBundle(path)
	if err != nil {
		return nil, "", &CAError{path, err}
	}
	var certificates [][]byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, "", &CAError{path, fmt.Errorf("certificate %d: %w", len(certificates)+1, err)}
		}
		certificates = append(certificates, block.Bytes)
	}
	if len(certificates) == 0 {
		return nil, "", &CAError{path, errors.New("no certificate in it")}
	}
	slices.SortFunc(certificates, bytes.Compare)
	certificates = slices.CompactFunc(certificates, bytes.Equal)
	var out bytes.Buffer
	for _, der := range certificates {
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, "", &CAError{path, err}
		}
	}
	sum := sha256.Sum256(out.Bytes())
	return out.Bytes(), "sha256:" + hex.EncodeToString(sum[:]), nil
}

func readBundle(path string) (text []byte, used string, err error) {
	if path != "" {
		text, err = os.ReadFile(path)
		return text, path, err
	}
	for _, path := range hostBundles {
		text, err := os.ReadFile(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return text, path, err
		}
	}
	return nil, "", errors.New("this machine has no bundle")
}
