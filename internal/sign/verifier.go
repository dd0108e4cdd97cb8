package sign

import (
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
)

// Verifier checks bundles against the evidence named when it was made. It is
// safe for concurrent use; its zero value refuses everything.
type Verifier struct {
	check    *verify.Verifier
	who      verify.PolicyOption                             // whose signature it must be
	material func(m *protobundle.VerificationMaterial) error // what the bundle may bring along
	keyID    string
}

// NewVerifier returns a Verifier that demands a signature by this key, and by
// no other: one PEM-encoded ECDSA P-256 public key. Bundles must name that key
// and bring no certificate, log entry or timestamp, because none of these
// would be checked.
func NewVerifier(pubPEM []byte) (*Verifier, error) {
	public, err := parsePublic(pubPEM)
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	id, err := keyID(public)
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	sv, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	key := root.NewExpiringKey(sv, time.Time{}, time.Time{})
	trusted := root.NewTrustedPublicKeyMaterialFromMapping(map[string]*root.ExpiringKey{id: key})
	check, err := verify.NewVerifier(trusted, verify.WithNoObserverTimestamps())
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	return &Verifier{check: check, who: verify.WithKey(), material: onlyKey(id), keyID: id}, nil
}

// OpenVerifier is [NewVerifier] with the public key in the file path.
func OpenVerifier(path string) (*Verifier, error) {
	raw, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("reading public key: %w", err)
	}
	v, err := NewVerifier(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// KeyID returns the name of the demanded key in bundles.
func (v *Verifier) KeyID() string { return v.keyID }

// Blob checks that the bundle is a signature over exactly this data. An
// attestation about it is none. Every refusal is a *VerifyError.
func (v *Verifier) Blob(data, bundleJSON []byte) error {
	b, err := v.open(bundleJSON, maxBlobBundle)
	if err != nil {
		return err
	}
	message := b.GetMessageSignature()
	if message == nil {
		return refuse("content", "the bundle holds an attestation, want a signature over the file")
	}
	if a := message.GetMessageDigest().GetAlgorithm(); a != protocommon.HashAlgorithm_SHA2_256 {
		return refuse("digest", "computed with %s, want SHA2_256", a)
	}
	sum := sha256.Sum256(data)
	if got := hex.EncodeToString(message.GetMessageDigest().GetDigest()); got != hex.EncodeToString(sum[:]) {
		return refuse("digest", "the bundle belongs to a file with SHA-256 %s, this one has %x", got, sum)
	}
	policy := verify.NewPolicy(verify.WithArtifactDigest("sha256", sum[:]), v.who)
	if _, err := v.check.Verify(b, policy); err != nil {
		return &VerifyError{What: "signature", Err: err}
	}
	return nil
}

// Attestation checks that the bundle is a signed in-toto statement of exactly
// this predicate type about the artifact with this SHA-256 (hexadecimal), and
// returns its predicate, a JSON object. Both are required: a signature says
// nothing until one asks what was signed, about what. Every refusal is a
// *VerifyError.
func (v *Verifier) Attestation(bundleJSON []byte, sha256 string, predicateType string) (json.RawMessage, error) {
	if predicateType == "" {
		return nil, refuse("predicate type", "none was demanded")
	}
	if !sha256Hex.MatchString(sha256) {
		return nil, refuse("subject", "%q is no SHA-256 (64 lower-case hexadecimal digits)", sha256)
	}
	digest, err := hex.DecodeString(sha256)
	if err != nil {
		return nil, &VerifyError{What: "subject", Err: err}
	}
	b, err := v.open(bundleJSON, maxAttestation)
	if err != nil {
		return nil, err
	}
	if err := v.envelope(b); err != nil {
		return nil, err
	}
	result, err := v.check.Verify(b, verify.NewPolicy(verify.WithArtifactDigest("sha256", digest), v.who))
	if err != nil {
		return nil, &VerifyError{What: v.blame(b, err), Err: err}
	}
	if got := result.Statement.GetType(); got != statementType {
		return nil, refuse("content", "statement type is %q, want %q", got, statementType)
	}
	if got := result.Statement.GetPredicateType(); got != predicateType {
		return nil, refuse("predicate type", "is %q, want %q", got, predicateType)
	}
	var raw map[string]json.RawMessage // exact keys; Verify has refused duplicates
	if err := json.Unmarshal(b.GetDsseEnvelope().GetPayload(), &raw); err != nil {
		return nil, &VerifyError{What: "content", Err: err}
	}
	if len(raw["predicate"]) == 0 || raw["predicate"][0] != '{' {
		return nil, refuse("content", "the statement has no predicate")
	}
	return raw["predicate"], nil
}

// envelope checks what sigstore-go leaves open about a DSSE envelope.
func (v *Verifier) envelope(b *bundle.Bundle) error {
	e := b.GetDsseEnvelope()
	switch {
	case e == nil:
		return refuse("content", "the bundle holds a signature over a file, want an attestation")
	case e.GetPayloadType() != bundle.IntotoMediaType:
		return refuse("content", "payload type is %q, want %q", e.GetPayloadType(), bundle.IntotoMediaType)
	case len(e.GetSignatures()) != 1:
		return refuse("signature", "%d signatures, want 1", len(e.GetSignatures()))
	}
	if id := e.GetSignatures()[0].GetKeyid(); id != "" && id != v.keyID {
		return refuse("key", "the envelope names key %q, want %q", id, v.keyID)
	}
	return nil
}

// blame names what was wrong with a bundle that was refused. It only chooses
// the word in the error.
func (v *Verifier) blame(b *bundle.Bundle, err error) string {
	if errors.Is(err, bundle.ErrInvalidAttestation) { // the signature is good, the statement is none
		return "content"
	}
	if _, err := v.check.Verify(b, verify.NewPolicy(verify.WithoutArtifactUnsafe(), v.who)); err != nil {
		return "signature"
	}
	return "subject"
}

// open decodes a bundle strictly and checks everything but its content.
func (v *Verifier) open(raw []byte, limit int) (*bundle.Bundle, error) {
	if v == nil || v.check == nil || v.who == nil || v.material == nil {
		return nil, refuse("key", "none was demanded")
	}
	switch {
	case len(raw) == 0:
		return nil, refuse("size", "the bundle is empty")
	case len(raw) > limit:
		return nil, refuse("size", "the bundle has %d bytes, more than %d", len(raw), limit)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(raw); err != nil {
		return nil, &VerifyError{What: "bundle", Err: err}
	}
	if b.GetMediaType() != BundleMediaType {
		return nil, refuse("bundle", "media type is %q, want %q", b.GetMediaType(), BundleMediaType)
	}
	if err := v.material(b.GetVerificationMaterial()); err != nil {
		return nil, &VerifyError{What: "key", Err: err}
	}
	return &b, nil
}

// onlyKey accepts verification material that names this key and nothing else.
func onlyKey(id string) func(*protobundle.VerificationMaterial) error {
	return func(m *protobundle.VerificationMaterial) error {
		key := m.GetPublicKey()
		switch {
		case key == nil:
			return errors.New("the bundle brings a certificate, want a signature by a key")
		case key.GetHint() != id:
			return fmt.Errorf("signed by key %q, want %q", key.GetHint(), id)
		case len(m.GetTlogEntries()) > 0:
			return errors.New("the bundle brings log entries, which nobody would check")
		case m.GetTimestampVerificationData() != nil:
			return errors.New("the bundle brings timestamps, which nobody would check")
		}
		return nil
	}
}
