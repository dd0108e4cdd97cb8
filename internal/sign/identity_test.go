package sign_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/sign/signtest"
)

const (
	subject = "release@acme.test"
	issuer  = "https://issuer.test"
)

func TestIdentity(t *testing.T) {
	// Whoever tries to use the network fails the test.
	transport := http.DefaultTransport.(*http.Transport)
	dial := transport.DialContext
	t.Cleanup(func() { transport.DialContext = dial })
	transport.DialContext = func(_ context.Context, _, address string) (net.Conn, error) {
		t.Errorf("the network was used: %s", address)
		return nil, net.ErrClosed
	}
	service, stranger := signtest.New(t), signtest.New(t)
	object := []byte("an object")
	good := service.Sign(subject, issuer, object)
	for name, tt := range map[string]struct {
		root   []byte
		id     sign.Identity
		bundle []byte
		object string
		what   string // "": accepted
	}{
		"the identity and its issuer": {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, good, "an object", ""},
		"a pattern":                   {service.TrustedRoot(), sign.Identity{SubjectRegexp: `[a-z]+@acme\.test`, Issuer: issuer}, good, "an object", ""},
		"a pattern for a part of it":  {service.TrustedRoot(), sign.Identity{SubjectRegexp: `acme\.test`, Issuer: issuer}, good, "an object", "signature"},
		"a pattern with a way out":    {service.TrustedRoot(), sign.Identity{SubjectRegexp: `x|release`, Issuer: issuer}, good, "an object", "signature"},
		"somebody else":               {service.TrustedRoot(), sign.Identity{Subject: "eve@acme.test", Issuer: issuer}, good, "an object", "signature"},
		"the same name elsewhere":     {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: "https://other.test"}, good, "an object", "signature"},
		"another object":              {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, good, "an objecT", "digest"},
		"another authority":           {stranger.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, good, "an object", "signature"},
		"signed by a stranger":        {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, stranger.Sign(subject, issuer, object), "an object", "signature"},
		"not in the log of certificates": {
			service.TrustedRootWithCTLog(), sign.Identity{Subject: subject, Issuer: issuer}, good, "an object", "signature",
		},
		"without its log entry":                   {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, without(t, good, "tlogEntries"), "an object", "signature"},
		"without a timestamp":                     {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, without(t, good, "timestampVerificationData"), "an object", ""},
		"without a certificate":                   {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, without(t, good, "certificate"), "an object", "bundle"},
		"signed by a key":                         {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, byKey(t, object), "an object", "key"},
		"cut off":                                 {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, good[:len(good)/2], "an object", "bundle"},
		"an empty bundle":                         {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, nil, "an object", "size"},
		"the log of a stranger":                   {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, graft(t, good, stranger.Sign(subject, issuer, object), "tlogEntries"), "an object", "signature"},
		"a witness nobody knows, besides the log": {service.TrustedRoot(), sign.Identity{Subject: subject, Issuer: issuer}, graft(t, good, stranger.Sign(subject, issuer, object), "timestampVerificationData"), "an object", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := sign.NewIdentityVerifier(tt.root, tt.id)
			if err != nil {
				t.Fatal(err)
			}
			err = v.Blob([]byte(tt.object), tt.bundle)
			var refused *sign.VerifyError
			switch {
			case tt.what == "" && err != nil:
				t.Error(err)
			case tt.what != "" && (!errors.As(err, &refused) || refused.What != tt.what):
				t.Errorf("got %v, want a refusal of the %s", err, tt.what)
			}
		})
	}
}

func TestIdentityHasToBeComplete(t *testing.T) {
	service := signtest.New(t)
	for name, tt := range map[string]struct {
		root    []byte
		id      sign.Identity
		problem string
	}{
		"no issuer":           {service.TrustedRoot(), sign.Identity{Subject: subject}, "no issuer"},
		"no subject":          {service.TrustedRoot(), sign.Identity{Issuer: issuer}, "no subject"},
		"two subjects":        {service.TrustedRoot(), sign.Identity{Subject: "a", SubjectRegexp: "b", Issuer: issuer}, "name one"},
		"no pattern":          {service.TrustedRoot(), sign.Identity{SubjectRegexp: "(", Issuer: issuer}, "pattern"},
		"a pattern of halves": {service.TrustedRoot(), sign.Identity{SubjectRegexp: "a)|(b", Issuer: issuer}, "pattern"},
		"no root":             {nil, sign.Identity{Subject: subject, Issuer: issuer}, "trusted root"},
		"an empty root": {
			[]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`),
			sign.Identity{Subject: subject, Issuer: issuer},
			"no certificate authority",
		},
		"nobody who knows the time": {
			without(t, service.TrustedRoot(), "tlogs", "timestampAuthorities"), sign.Identity{Subject: subject, Issuer: issuer}, "vouches for the time",
		},
	} {
		if _, err := sign.NewIdentityVerifier(tt.root, tt.id); err == nil || !strings.Contains(err.Error(), tt.problem) {
			t.Errorf("%s: got %v, want %q", name, err, tt.problem)
		}
	}
}

// TestOnlyATimestampingAuthority verifies against a root without a log.
func TestOnlyATimestampingAuthority(t *testing.T) {
	service := signtest.New(t)
	v, err := sign.NewIdentityVerifier(without(t, service.TrustedRoot(), "tlogs"), sign.Identity{Subject: subject, Issuer: issuer})
	if err != nil {
		t.Fatal(err)
	}
	b := service.Sign(subject, issuer, []byte("object"))
	if err := v.Blob([]byte("object"), without(t, b, "tlogEntries")); err != nil {
		t.Error(err)
	}
	if err := v.Blob([]byte("object"), without(t, b, "tlogEntries", "timestampVerificationData")); err == nil {
		t.Error("accepted with nobody who vouches for the time")
	}
}

func byKey(t *testing.T, data []byte) []byte {
	t.Helper()
	path, _, err := sign.GenerateKey(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sign.OpenSigner(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signer.Blob(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// without removes fields, at the top or from the verification material.
func without(t *testing.T, raw []byte, fields ...string) []byte {
	t.Helper()
	m := decode(t, raw)
	for _, f := range fields {
		delete(m, f)
		if material, ok := m["verificationMaterial"].(map[string]any); ok {
			delete(material, f)
		}
	}
	return encode(t, m)
}

// graft puts a part of another bundle's verification material into a bundle.
func graft(t *testing.T, raw, from []byte, field string) []byte {
	t.Helper()
	m := decode(t, raw)
	m["verificationMaterial"].(map[string]any)[field] = decode(t, from)["verificationMaterial"].(map[string]any)[field]
	return encode(t, m)
}

func decode(t *testing.T, raw []byte) (m map[string]any) {
	t.Helper()
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t *testing.T, m map[string]any) []byte {
	t.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// gh attestation trusted-root prints one root a line.
func TestOneTrustedRootIsNamed(t *testing.T) {
	both := append(append(signtest.New(t).TrustedRoot(), '\n'), signtest.New(t).TrustedRoot()...)
	_, err := sign.NewIdentityVerifier(both, sign.Identity{Subject: subject, Issuer: issuer})
	var several *sign.SeveralRootsError
	if !errors.As(err, &several) || several.Roots != 2 || !strings.Contains(several.Hint(), "jq -c") {
		t.Errorf("got %v", err)
	}
	if _, err := sign.NewIdentityVerifier(both[:len(both)-4], sign.Identity{Subject: subject, Issuer: issuer}); err == nil || errors.As(err, &several) {
		t.Errorf("a root and the beginning of another: %v", err)
	}
}
