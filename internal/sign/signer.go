package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	sgsign "github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"google.golang.org/protobuf/encoding/protojson"
)

// Signer signs with one private key, or as one identity ([NewKeylessSigner]). It
// is safe for concurrent use.
//
// The key is behind sigstore-go's Keypair, so that a key in a KMS, or an
// ephemeral one with a certificate, is another constructor and no other Signer.
type Signer struct {
	key       sgsign.Keypair
	pem       []byte
	verifier  *Verifier
	witnesses *authorities // nil: whoever verifies knows the key
}

func newSigner(private *ecdsa.PrivateKey) (*Signer, error) {
	key, err := newKeypair(private)
	if err != nil {
		return nil, err
	}
	v, err := NewVerifier(key.pem)
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, pem: key.pem, verifier: v}, nil
}

// Verifier demands what this signer gives: its key, or its identity.
func (s *Signer) Verifier() *Verifier { return s.verifier }

// PublicPEM returns the public key, PEM-encoded, as [NewVerifier] takes it.
func (s *Signer) PublicPEM() []byte { return bytes.Clone(s.pem) }

// KeyID returns the name of the key in bundles: the base64 of the SHA-256 of
// the public key.
func (s *Signer) KeyID() string { return string(s.key.GetHint()) }

// Blob returns a bundle with a signature over data.
func (s *Signer) Blob(ctx context.Context, data []byte) ([]byte, error) {
	out, err := s.bundle(ctx, &sgsign.PlainData{Data: data})
	if err != nil {
		return nil, fmt.Errorf("signing: %w", err)
	}
	if err := s.verifier.Blob(data, out); err != nil {
		return nil, fmt.Errorf("signing: checking the result: %w", err)
	}
	return out, nil
}

// Attest returns a bundle with the signed statement. A statement without
// subjects, with a malformed digest, or whose predicate is no JSON object is
// an error.
func (s *Signer) Attest(ctx context.Context, statement Statement) ([]byte, error) {
	raw, err := statement.marshal()
	if err != nil {
		return nil, fmt.Errorf("attesting: %w", err)
	}
	out, err := s.bundle(ctx, &sgsign.DSSEData{Data: raw, PayloadType: bundle.IntotoMediaType})
	if err != nil {
		return nil, fmt.Errorf("attesting: %w", err)
	}
	for _, subject := range statement.Subjects {
		if _, err := s.verifier.Attestation(out, subject.SHA256, statement.PredicateType); err != nil {
			return nil, fmt.Errorf("attesting: checking the result: %w", err)
		}
	}
	return out, nil
}

// SimpleSigning returns what verifiers that know no bundles look for: the
// payload for the image ref (registry/repository, with or without a tag) with
// this manifest digest ("sha256:<hex>"), and the base64 of its signature. See
// [SimpleSigningMediaType]. It has no place for a certificate, so an identity
// cannot sign like that.
func (s *Signer) SimpleSigning(ref, digest string) (payloadJSON []byte, signatureB64 string, err error) {
	if s.witnesses != nil {
		return nil, "", errors.New("signing image: an identity signs bundles only")
	}
	r, err := name.ParseReference(ref)
	if err != nil {
		return nil, "", fmt.Errorf("signing image: %w", err)
	}
	image, err := name.NewDigest(r.Context().Name() + "@" + digest)
	if err != nil {
		return nil, "", fmt.Errorf("signing image: %w", err)
	}
	payloadJSON, err = payload.Cosign{Image: image}.MarshalJSON()
	if err != nil {
		return nil, "", fmt.Errorf("signing image: %w", err)
	}
	sig, _, err := s.key.SignData(context.Background(), payloadJSON)
	if err != nil {
		return nil, "", fmt.Errorf("signing image: %w", err)
	}
	return payloadJSON, base64.StdEncoding.EncodeToString(sig), nil
}

func (s *Signer) bundle(ctx context.Context, content sgsign.Content) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := s.seal(ctx, content)
	if err != nil {
		return nil, err
	}
	raw, err := protojson.Marshal(b)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer // protojson varies its white space on purpose
	if err := json.Compact(&out, raw); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

func (s *Signer) seal(ctx context.Context, content sgsign.Content) (*protobundle.Bundle, error) {
	if s.witnesses != nil {
		return s.witnesses.bundle(ctx, content, s.key)
	}
	return sgsign.Bundle(content, s.key, sgsign.BundleOptions{Context: ctx})
}

// keypair is an ECDSA P-256 key in memory.
type keypair struct {
	private *ecdsa.PrivateKey
	id      string
	pem     []byte
}

func newKeypair(private *ecdsa.PrivateKey) (keypair, error) {
	pem, err := cryptoutils.MarshalPublicKeyToPEM(private.Public())
	if err != nil {
		return keypair{}, err
	}
	id, err := keyID(&private.PublicKey)
	return keypair{private, id, pem}, err
}

func (k keypair) GetHashAlgorithm() protocommon.HashAlgorithm {
	return protocommon.HashAlgorithm_SHA2_256
}

func (k keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return protocommon.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256
}
func (k keypair) GetHint() []byte                  { return []byte(k.id) }
func (k keypair) GetKeyAlgorithm() string          { return "ECDSA" }
func (k keypair) GetPublicKey() crypto.PublicKey   { return k.private.Public() }
func (k keypair) GetPublicKeyPem() (string, error) { return string(k.pem), nil }

// SignData returns the signature of data and its digest. Without a source of
// randomness crypto/ecdsa signs as RFC 6979 says.
func (k keypair) SignData(_ context.Context, data []byte) (signature, digest []byte, err error) {
	if k.private == nil {
		return nil, nil, errors.New("no key")
	}
	sum := sha256.Sum256(data)
	signature, err = k.private.Sign(nil, sum[:], crypto.SHA256)
	return signature, sum[:], err
}
