package sign

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// Identity is who must have signed: somebody, and who says that it was them. A
// subject without its issuer proves nothing, since every issuer names subjects as
// it likes; so both are required.
type Identity struct {
	Subject       string // as in the certificate: an e-mail address, or the URI of a workflow
	SubjectRegexp string // instead of Subject: has to match all of it
	Issuer        string // OpenID Connect issuer, as in the certificate
}

// NewIdentityVerifier returns a Verifier that demands a certificate of this
// identity from an authority in the trusted root (Sigstore's trusted_root.json),
// and the word of everybody else whom the root names: an entry in its
// transparency log and, if it names logs of certificates, a timestamp of one of
// them. One witness of the time of signing is always demanded, because the
// certificates live for minutes.
//
// Nothing is asked over the network: the root is a file that was fetched before,
// so no signing service has to be up.
func NewIdentityVerifier(trustedRootJSON []byte, id Identity) (*Verifier, error) {
	who, err := id.policy()
	if err != nil {
		return nil, fmt.Errorf("verifying an identity: %w", err)
	}
	if n := values(trustedRootJSON); n > 1 {
		return nil, fmt.Errorf("reading trusted root: %w", &SeveralRootsError{n})
	}
	trusted, err := root.NewTrustedRootFromJSON(trustedRootJSON)
	if err != nil {
		return nil, fmt.Errorf("reading trusted root: %w", err)
	}
	if len(trusted.FulcioCertificateAuthorities()) == 0 {
		return nil, errors.New("reading trusted root: it names no certificate authority")
	}
	options := []verify.VerifierOption{verify.WithObserverTimestamps(1)}
	switch {
	case len(trusted.RekorLogs()) > 0:
		options = append(options, verify.WithTransparencyLog(1))
	case len(trusted.TimestampingAuthorities()) == 0:
		return nil, errors.New("reading trusted root: it names neither a transparency log nor a timestamping authority, so nobody vouches for the time of a signature")
	}
	if len(trusted.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	check, err := verify.NewVerifier(trusted, options...)
	if err != nil {
		return nil, fmt.Errorf("reading trusted root: %w", err)
	}
	return &Verifier{check: check, who: who, material: onlyCertificate}, nil
}

// SeveralRootsError means that a file has more than one trusted root, as gh
// attestation trusted-root prints them. Each is another authority, and whoever
// verifies has to say which one it is.
type SeveralRootsError struct{ Roots int }

func (e *SeveralRootsError) Error() string { return fmt.Sprintf("there are %d, want one", e.Roots) }

// Hint prints the command that keeps one.
func (e *SeveralRootsError) Hint() string {
	return `keep the one of your authority, for example: jq -c 'select(any(.certificateAuthorities[]; .uri == "https://fulcio.sigstore.dev"))'`
}

// values counts the JSON values in a text, up to where it is none.
func values(text []byte) (n int) {
	for d := json.NewDecoder(bytes.NewReader(text)); ; n++ {
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return n
		}
	}
}

// OpenIdentityVerifier is [NewIdentityVerifier] with the trusted root in the file
// path.
func OpenIdentityVerifier(path string, id Identity) (*Verifier, error) {
	raw, err := readLimited(path)
	if err != nil {
		return nil, fmt.Errorf("reading trusted root: %w", err)
	}
	v, err := NewIdentityVerifier(raw, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

func (id Identity) policy() (verify.PolicyOption, error) {
	identity, err := id.certificateIdentity()
	if err != nil {
		return nil, err
	}
	return verify.WithCertificateIdentity(identity), nil
}

func (id Identity) certificateIdentity() (verify.CertificateIdentity, error) {
	var none verify.CertificateIdentity
	switch {
	case id.Issuer == "":
		return none, errors.New("no issuer was named")
	case id.Subject == "" && id.SubjectRegexp == "":
		return none, errors.New("no subject was named")
	case id.Subject != "" && id.SubjectRegexp != "":
		return none, errors.New("a subject and a pattern for it: name one of them")
	}
	pattern := ""
	if id.SubjectRegexp != "" {
		// Without the ends a pattern would accept whatever contains it.
		pattern = `^(?:` + id.SubjectRegexp + `)$`
		if _, err := regexp.Compile(id.SubjectRegexp); err != nil {
			return none, fmt.Errorf("the pattern for the subject: %w", err)
		}
	}
	return verify.NewShortCertificateIdentity(id.Issuer, "", id.Subject, pattern)
}

// onlyCertificate accepts verification material with one certificate and no key.
func onlyCertificate(m *protobundle.VerificationMaterial) error {
	if m.GetCertificate() == nil {
		return errors.New("the bundle brings no certificate, want a signature by an identity")
	}
	return nil
}
