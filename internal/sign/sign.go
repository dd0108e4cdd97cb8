// Package sign signs artifacts and checks signatures, offline.
//
// Keys are cosign's (an encrypted PEM file and its public half) and signatures
// are Sigstore bundles v0.3, so that `cosign verify-blob --key … --bundle …
// --new-bundle-format --insecure-ignore-tlog` accepts what this package signs.
// A blob is signed as a message; a statement about an artifact (an SBOM, a
// provenance, a verdict, "this image is mine") as an in-toto attestation in a
// DSSE envelope.
//
// A [Verifier] cannot be made without naming the evidence it demands: one public
// key ([NewVerifier]), or an identity with its issuer and a trusted root
// ([NewIdentityVerifier]). It fails closed: what it does not know, it refuses. It
// never touches the network. Nor does a [Signer] with a key; one with an identity
// ([NewKeylessSigner]) asks a certificate authority and those who bear witness.
//
// Signatures by a key are deterministic (RFC 6979): signing the same thing twice
// gives the same bundle, so that publishing it again changes nothing. How bundles
// are stored is left to others.
package sign

import (
	"fmt"

	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/cosign/v2/pkg/types"
)

// Predicate types: what a signed statement says about its subject. A statement
// of one type never passes for one of another.
const (
	PredicateImage      = "https://sigstore.dev/cosign/sign/v1" // the signer vouches for an image
	PredicateProvenance = "https://slsa.dev/provenance/v1"
	PredicateCycloneDX  = "https://cyclonedx.org/bom"
	PredicateSPDX       = "https://spdx.dev/Document"
	PredicateVerdict    = "https://sluice.dev/verdict/v1" // the gate's verdict on a release
)

const (
	// BundleMediaType is the media type of every bundle this package makes,
	// and the only one it accepts.
	BundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	// SimpleSigningMediaType is the media type of a payload of
	// [Signer.SimpleSigning], stored as the layer of an image tagged
	// sha256-<hex>.sig.
	SimpleSigningMediaType = types.SimpleSigningMediaType
	// SimpleSigningAnnotation is the layer annotation that holds its signature.
	SimpleSigningAnnotation = static.SignatureAnnotationKey
)

const (
	maxKeyBytes = 64 << 10
	// maxBlobBundle is many times what a bundle with a message signature has.
	maxBlobBundle = 256 << 10
	// maxAttestation leaves room for the SBOM of a very large image.
	maxAttestation = 64 << 20
)

// VerifyError says which demand was not met.
type VerifyError struct {
	// What was checked: "size", "bundle", "key", "content", "digest",
	// "signature", "subject" or "predicate type".
	What string
	Err  error
}

func (e *VerifyError) Error() string {
	return fmt.Sprintf("verifying signature: %s: %v", e.What, e.Err)
}

// Unwrap returns the cause.
func (e *VerifyError) Unwrap() error { return e.Err }

func refuse(what, format string, args ...any) error {
	return &VerifyError{What: what, Err: fmt.Errorf(format, args...)}
}
