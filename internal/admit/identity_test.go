package admit_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sluice-cd/sluice/internal/admit"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/sign"
)

const (
	workflow = "https://git.example.com/team/hello/.github/workflows/release.yml@refs/tags/v1.2.0"
	issuer   = "https://token.example.com"
)

// service is a certificate authority and a timestamping authority that exist for
// one test.
type service struct {
	t       *testing.T
	virtual *ca.VirtualSigstore
}

// root writes the trusted root, as it would be mounted, and returns its path.
func (s service) root() string {
	s.t.Helper()
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, s.virtual.FulcioCertificateAuthorities(), nil, s.virtual.TimestampingAuthorities(), nil)
	s.must(err)
	raw, err := json.Marshal(trusted)
	s.must(err)
	path := filepath.Join(s.t.TempDir(), "trusted_root.json")
	s.must(os.WriteFile(path, raw, 0o644))
	return path
}

func (s service) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// sign makes a bundle of what another bundle says, signed by an identity.
func (s service) sign(old []byte) []byte {
	s.t.Helper()
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	s.must(json.Unmarshal(old, &b))
	entity, err := s.virtual.Attest(workflow, issuer, b.Envelope.Payload)
	s.must(err)
	content, err := entity.SignatureContent()
	s.must(err)
	verification, err := entity.VerificationContent()
	s.must(err)
	timestamps, err := entity.Timestamps()
	s.must(err)
	raw, err := protojson.Marshal(&protobundle.Bundle{
		MediaType: sign.BundleMediaType,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_Certificate{
				Certificate: &protocommon.X509Certificate{RawBytes: verification.Certificate().Raw},
			},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: timestamps[0]}},
			},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: b.Envelope.Payload, PayloadType: "application/vnd.in-toto+json",
			Signatures: []*protodsse.Signature{{Sig: content.Signature()}},
		}},
	})
	s.must(err)
	return raw
}

// The trusted root is a file, and the registry is the only one who is asked.
func TestAnIdentityMaySignInsteadOfAKey(t *testing.T) {
	l := newLab(t, true)
	virtual, err := ca.NewVirtualSigstore()
	l.must(err)
	s := service{t, virtual}
	trusted := s.root()
	keyless := l.push(l.changed("v1.2.0", func(a attachment) []attachment {
		return []attachment{{a.about, a.name, s.sign(a.content)}}
	}), "v1.2.0")
	stranger, err := ca.NewVirtualSigstore()
	l.must(err)
	for name, tt := range map[string]struct {
		root    string
		who     sign.Identity
		layout  *image.Layout // nil: signed by the identity
		problem admit.Problem
	}{
		"the workflow that was named":   {trusted, sign.Identity{Subject: workflow, Issuer: issuer}, nil, ""},
		"a pattern for its tags":        {trusted, sign.Identity{SubjectRegexp: `https://git\.example\.com/team/hello/.*@refs/tags/v.*`, Issuer: issuer}, nil, ""},
		"another workflow":              {trusted, sign.Identity{Subject: workflow + "0", Issuer: issuer}, nil, admit.Foreign},
		"another issuer":                {trusted, sign.Identity{Subject: workflow, Issuer: issuer + ".org"}, nil, admit.Foreign},
		"an authority nobody knows":     {service{t, stranger}.root(), sign.Identity{Subject: workflow, Issuer: issuer}, nil, admit.Foreign},
		"a key where one was not named": {trusted, sign.Identity{Subject: workflow, Issuer: issuer}, l.layout(), admit.Foreign},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := sign.OpenIdentityVerifier(tt.root, tt.who)
			if err != nil {
				t.Fatal(err)
			}
			lab, ref := l, keyless
			if tt.layout != nil {
				lab = newLab(t, true)
				ref = lab.push(tt.layout, "v1.2.0")
			}
			demands := lab.demands()
			demands.Verifiers = []*sign.Verifier{v}
			_, err = admit.Image(t.Context(), ref, demands)
			var refused *admit.Error
			if tt.problem == "" && err != nil || tt.problem != "" && (!errors.As(err, &refused) || refused.Problem != tt.problem || !refused.Signature()) {
				t.Errorf("%v, want %q", err, tt.problem)
			}
		})
	}
}
