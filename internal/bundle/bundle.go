// Package bundle verifies the signature of an eBPF object with the standard
// library only, for the process that holds the privileges.
//
// A bundle is a Sigstore bundle v0.3 with a signature by a key, as
// sign.Signer.Blob writes it. Everything else is refused: another media type, a
// certificate, log entries, timestamps, an attestation, another algorithm, an
// unknown or repeated field, a field in another spelling, text after the end. So
// what this package accepts, package sign accepts too, and nothing in a bundle is
// there without being checked.
//
// Who signed on behalf of an identity (a certificate) cannot be told without
// Sigstore's libraries. Let an unprivileged process verify that, and give the
// digest to the privileged one: `sluice bpf verify`.
package bundle

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
)

// MediaType is the only media type of a bundle that is accepted.
const MediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"

const (
	maxBundle = 64 << 10 // many times what a bundle with one signature has
	maxKey    = 16 << 10
)

// VerifyError says why a bundle was refused.
type VerifyError struct {
	What string // "key", "bundle", "digest" or "signature"
	Err  error
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("verifying the signature of the eBPF object: %s: %v", e.What, e.Err)
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

func refuse(what, format string, args ...any) error {
	return &VerifyError{What: what, Err: fmt.Errorf(format, args...)}
}

// Verify checks that the bundle is a signature over exactly this object by one
// of the keys, which are ECDSA P-256. No key verifies nothing. The error is a
// *VerifyError.
func Verify(object, bundleJSON []byte, keys ...*ecdsa.PublicKey) error {
	b, err := parse(bundleJSON)
	if err != nil {
		return &VerifyError{What: "bundle", Err: err}
	}
	sum := sha256.Sum256(object)
	if !bytes.Equal(b.digest, sum[:]) {
		return refuse("digest", "the bundle belongs to an object with SHA-256 %x, this one has %x", b.digest, sum)
	}
	key, err := choose(b.keyID, keys)
	if err != nil {
		return &VerifyError{What: "key", Err: err}
	}
	if !ecdsa.VerifyASN1(key, sum[:], b.signature) {
		return refuse("signature", "it was not made by key %s", b.keyID)
	}
	return nil
}

// choose finds the key that a bundle names.
func choose(id string, keys []*ecdsa.PublicKey) (*ecdsa.PublicKey, error) {
	if len(keys) == 0 {
		return nil, errors.New("none was demanded")
	}
	var known []string
	for _, key := range keys {
		keyID, err := KeyID(key)
		if err != nil {
			return nil, err
		}
		if keyID == id {
			return key, nil
		}
		known = append(known, keyID)
	}
	return nil, fmt.Errorf("signed by key %q, want one of %q", id, known)
}

// KeyID is the name of a key in bundles: the base64 of the SHA-256 of its PKIX
// encoding. An error if the key is not ECDSA P-256.
func KeyID(key *ecdsa.PublicKey) (string, error) {
	if key == nil || key.Curve != elliptic.P256() {
		return "", errors.New("the key is not ECDSA P-256")
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:]), nil
}

// ParseKey reads a PEM file with one public key, ECDSA P-256, such as cosign.pub.
func ParseKey(text []byte) (*ecdsa.PublicKey, error) {
	if len(text) > maxKey {
		return nil, fmt.Errorf("reading public key: it has %d bytes, more than %d", len(text), maxKey)
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil:
		return nil, errors.New("reading public key: not a PEM file")
	case block.Type != "PUBLIC KEY":
		return nil, fmt.Errorf("reading public key: holds a %q, want a \"PUBLIC KEY\"", block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return nil, errors.New("reading public key: holds more than one key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	public, ok := key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() {
		return nil, fmt.Errorf("reading public key: holds a %T, want ECDSA P-256", key)
	}
	return public, nil
}
