package sign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	sgsign "github.com/sigstore/sigstore-go/pkg/sign"
)

// Keyless says who signs, and whose word makes that a signature.
type Keyless struct {
	Identity    Identity // whom the certificate has to name; somebody else does not sign
	TrustedRoot string   // file with Sigstore's trusted_root.json
	Fulcio      string   // URL of the certificate authority
	Rekor       string   // URL of the transparency log (API v1); "": none
	Timestamp   string   // URL, with its path, of the timestamping authority (RFC 3161); "": none
}

// IdentityError means that the token belongs to somebody else than it should.
type IdentityError struct {
	Subject, Issuer string // what the certificate says
	Want            Identity
}

func (e *IdentityError) Error() string {
	want := e.Want.Subject
	if want == "" {
		want = "one that matches " + e.Want.SubjectRegexp
	}
	return fmt.Sprintf("the identity token belongs to %s (issuer %s), want %s (issuer %s)", e.Subject, e.Issuer, want, e.Want.Issuer)
}

// Hint says what to do.
func (e *IdentityError) Hint() string {
	return "nothing was signed: if that is who shall sign releases, say so in sign.keyless (identity, issuer)"
}

// NewKeylessSigner returns a Signer that signs as the identity of a token: with a
// key that exists in this process only, and a certificate for it that lives for
// minutes and is renewed when it has to be. What it signs is what a Verifier
// for the same identity and root accepts ([NewIdentityVerifier]); if not, it is an
// error and no bundle. Neither is asked before the first signature.
func NewKeylessSigner(k Keyless, token Token) (*Signer, error) {
	v, err := OpenIdentityVerifier(k.TrustedRoot, k.Identity)
	if err != nil {
		return nil, err
	}
	if k.Fulcio == "" || k.Rekor == "" && k.Timestamp == "" {
		return nil, errors.New("signing as an identity needs a certificate authority, and a transparency log or a timestamping authority")
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := newKeypair(private)
	if err != nil {
		return nil, err
	}
	return &Signer{key: key, pem: key.pem, verifier: v, witnesses: &authorities{Keyless: k, token: token}}, nil
}

// authorities get for a signature what makes it one. One signature is made at a
// time: sigstore-go's clients make themselves when they are first used.
type authorities struct {
	Keyless
	token Token

	mu    sync.Mutex
	rekor *sgsign.Rekor
	cert  *x509.Certificate
}

func (a *authorities) bundle(ctx context.Context, content sgsign.Content, key sgsign.Keypair) (*protobundle.Bundle, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	opts := sgsign.BundleOptions{Context: ctx, CertificateProvider: a}
	if a.Timestamp != "" {
		opts.TimestampAuthorities = []*sgsign.TimestampAuthority{sgsign.NewTimestampAuthority(&sgsign.TimestampAuthorityOptions{
			URL: a.Timestamp, Timeout: authorityPatience, Transport: authorityTransport{ctx, "timestamping authority"},
		})}
	}
	if a.Rekor != "" {
		opts.TransparencyLogs = []sgsign.Transparency{a}
	}
	b, err := sgsign.Bundle(content, key, opts)
	if err != nil {
		return nil, bare(err)
	}
	return b, nil
}

// renewal is how long before its end a certificate is replaced: what is signed
// now has to be witnessed before that.
const renewal = 2 * time.Minute

// GetCertificate returns the certificate for the key, a new one if there is none
// yet or it ends soon.
func (a *authorities) GetCertificate(ctx context.Context, key sgsign.Keypair, _ *sgsign.CertificateProviderOptions) ([]byte, error) {
	if a.cert != nil && time.Until(a.cert.NotAfter) > renewal {
		return a.cert.Raw, nil
	}
	token, err := a.token(ctx)
	if err != nil {
		return nil, err
	}
	fulcio := sgsign.NewFulcio(&sgsign.FulcioOptions{
		BaseURL: a.Fulcio, Timeout: authorityPatience, Transport: authorityTransport{ctx, "certificate authority"},
	})
	raw, err := fulcio.GetCertificate(ctx, key, &sgsign.CertificateProviderOptions{IDToken: token})
	if err != nil {
		return nil, fmt.Errorf("asking for a certificate: %w", bare(err))
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, fmt.Errorf("asking for a certificate: %w", err)
	}
	if err := a.Identity.check(cert); err != nil {
		return nil, err
	}
	a.cert = cert
	return raw, nil
}

// GetTransparencyLogEntry has the log write a signature down.
func (a *authorities) GetTransparencyLogEntry(ctx context.Context, certPEM []byte, b *protobundle.Bundle) error {
	if a.rekor == nil {
		a.rekor = sgsign.NewRekor(&sgsign.RekorOptions{BaseURL: a.Rekor, Timeout: authorityPatience, Retries: authorityTries - 1})
	}
	if err := a.rekor.GetTransparencyLogEntry(ctx, certPEM, b); err != nil {
		return rekorError(a.Rekor, err)
	}
	return nil
}

// check compares a certificate with the identity before anything is signed with
// it: what a public log has seen cannot be taken back.
func (id Identity) check(cert *x509.Certificate) error {
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	want, err := id.certificateIdentity()
	if err != nil {
		return err
	}
	if want.Verify(summary) != nil {
		return &IdentityError{Subject: summary.SubjectAlternativeName, Issuer: summary.Issuer, Want: id}
	}
	return nil
}
