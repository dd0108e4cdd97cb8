package sign

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"github.com/sigstore/cosign/v2/pkg/cosign"
	cosignbundle "github.com/sigstore/cosign/v2/pkg/cosign/bundle"
	"github.com/sigstore/cosign/v2/pkg/oci/static"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
)

// checkOpts is what `cosign verify-blob --key K --new-bundle-format
// --insecure-ignore-tlog --trusted-root EMPTY` hands to cosign's library.
func checkOpts(t *testing.T, s *Signer) *cosign.CheckOpts {
	t.Helper()
	public, err := cryptoutils.UnmarshalPEMToPublicKey(s.PublicPEM())
	if err != nil {
		t.Fatal(err)
	}
	sv, err := signature.LoadVerifier(public, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := root.NewTrustedRootFromJSON([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	if err != nil {
		t.Fatal(err)
	}
	return &cosign.CheckOpts{SigVerifier: sv, TrustedMaterial: empty, IgnoreTlog: true, IgnoreSCT: true, Offline: true, NewBundleFormat: true}
}

func TestCosignAcceptsOurBundles(t *testing.T) {
	s := newKey(t)
	for name, tt := range map[string]struct {
		bundle []byte
		data   string
		key    *Signer
		ok     bool
	}{
		"a signed file":            {blob(t, s, artifact), string(artifact), s, true},
		"but not another file":     {blob(t, s, artifact), "another", s, false},
		"and not with another key": {blob(t, s, artifact), string(artifact), newKey(t), false},
		"an attestation":           {attest(t, s, PredicateImage, struct{}{}), string(artifact), s, true},
		"but not about another":    {attest(t, s, PredicateImage, struct{}{}), "another", s, false},
	} {
		t.Run(name, func(t *testing.T) {
			var b bundle.Bundle
			if err := b.UnmarshalJSON(tt.bundle); err != nil {
				t.Fatal(err)
			}
			_, err := cosign.VerifyNewBundle(ctx, checkOpts(t, tt.key), verify.WithArtifact(strings.NewReader(tt.data)), &b)
			if (err == nil) != tt.ok {
				t.Errorf("cosign says %v", err)
			}
		})
	}
}

func TestWeAcceptAttestationsOfCosign(t *testing.T) {
	s := newKey(t)
	statement, err := Statement{[]Subject{{"shop", digest}}, PredicateImage, struct{}{}}.marshal()
	if err != nil {
		t.Fatal(err)
	}
	sig, _, err := s.key.SignData(ctx, dsse.PAE(bundle.IntotoMediaType, statement))
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := json.Marshal(dsse.Envelope{
		PayloadType: bundle.IntotoMediaType, Payload: base64.StdEncoding.EncodeToString(statement),
		Signatures: []dsse.Signature{{Sig: base64.StdEncoding.EncodeToString(sig)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := cosignbundle.MakeNewBundle(s.key.GetPublicKey(), nil, statement, envelope, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.verifier.Attestation(made, digest, PredicateImage); err != nil {
		t.Error(err)
	}
}

func TestCosignAcceptsOurSimpleSigning(t *testing.T) {
	s := newKey(t)
	payload, sig, err := s.SimpleSigning("registry.example/acme/shop:v1.2.3", "sha256:"+digest)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"critical":{"identity":{"docker-reference":"registry.example/acme/shop"},"image":{"docker-manifest-digest":"sha256:` +
		digest + `"},"type":"cosign container image signature"},"optional":null}`
	if string(payload) != want {
		t.Errorf("payload\n%s, want\n%s", payload, want)
	}
	opts := checkOpts(t, s)
	opts.NewBundleFormat, opts.TrustedMaterial = false, nil
	opts.ClaimVerifier = cosign.SimpleClaimVerifier
	oci, err := static.NewSignature(payload, sig)
	if err != nil {
		t.Fatal(err)
	}
	for hash, ok := range map[string]bool{digest: true, sum([]byte("another")): false} {
		h, err := v1.NewHash("sha256:" + hash)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cosign.VerifyImageSignature(ctx, oci, h, opts); (err == nil) != ok {
			t.Errorf("cosign says %v about %s", err, hash)
		}
	}
}

func TestSimpleSigningRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ ref, digest string }{
		"a reference that is none":   {"Not A Reference", "sha256:" + digest},
		"a digest without algorithm": {"registry.example/shop", digest},
		"a digest that is cut":       {"registry.example/shop", "sha256:00"},
		"no digest":                  {"registry.example/shop:v1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if p, _, err := newKey(t).SimpleSigning(tt.ref, tt.digest); err == nil {
				t.Errorf("signed %s", p)
			}
		})
	}
	if _, err := name.NewDigest("registry.example/shop@sha256:" + digest); err != nil {
		t.Error("the tests' own reference:", err)
	}
}
