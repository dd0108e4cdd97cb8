package sign_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/sign/signtest"
)

// service is a running authority and what a signer needs to know about it.
func service(t *testing.T) (*signtest.Server, sign.Keyless) {
	t.Helper()
	server := signtest.Serve(signtest.New(t))
	file := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(file, server.TrustedRoot(), 0o600); err != nil {
		t.Fatal(err)
	}
	return server, sign.Keyless{
		Identity: sign.Identity{Subject: subject, Issuer: issuer}, TrustedRoot: file, Fulcio: server.URL, Rekor: server.URL,
	}
}

func ambient(t *testing.T, env map[string]string) sign.Token {
	t.Helper()
	token, err := sign.AmbientToken(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func keylessSigner(t *testing.T, k sign.Keyless, token sign.Token) *sign.Signer {
	t.Helper()
	s, err := sign.NewKeylessSigner(k, token)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAnIdentitySigns(t *testing.T) {
	server, k := service(t)
	s := keylessSigner(t, k, ambient(t, server.Environment()))
	data := []byte("an object")
	blob, err := s.Blob(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("ab", 32)
	statement, err := s.Attest(t.Context(), sign.Statement{
		Subjects: []sign.Subject{{Name: "shop", SHA256: digest}}, PredicateType: sign.PredicateImage, Predicate: struct{}{},
	})
	if err != nil {
		t.Fatal(err)
	}
	// Who verifies asks nobody, knows no key, and is another process.
	v, err := sign.OpenIdentityVerifier(k.TrustedRoot, k.Identity)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Blob(data, blob); err != nil {
		t.Error(err)
	}
	if err := v.Blob([]byte("another"), blob); err == nil {
		t.Error("accepted for another object")
	}
	if _, err := v.Attestation(statement, digest, sign.PredicateImage); err != nil {
		t.Error(err)
	}
	if n := server.Requests("/api/v2/signingCert"); n != 1 {
		t.Errorf("%d certificates for two signatures, want 1", n)
	}
	if n := server.Requests("/api/v1/log/entries"); n != 2 {
		t.Errorf("%d entries in the log, want 2", n)
	}
	if _, _, err := s.SimpleSigning("registry.example/shop", "sha256:"+digest); err == nil {
		t.Error("a signature without its certificate was made")
	}
}

func TestKeylessSigningFails(t *testing.T) {
	for name, tt := range map[string]struct {
		before    func(*signtest.Server, *sign.Keyless, map[string]string)
		problem   string
		hint      string
		temporary bool
		logged    int // entries that the log was asked for
	}{
		"the provider refuses": {
			before: func(_ *signtest.Server, _ *sign.Keyless, env map[string]string) {
				env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = "wrong"
			},
			problem: "refuses (401): who are you?", hint: "nothing was signed",
		},
		"a token for somebody else's service": {
			before: func(s *signtest.Server, _ *sign.Keyless, env map[string]string) {
				env["SIGSTORE_ID_TOKEN"] = s.Token("vault", time.Now().Add(time.Minute))
			},
			problem: `the one in SIGSTORE_ID_TOKEN is for the audience "vault", want "sigstore"`, hint: "with the audience sigstore",
		},
		"a token of yesterday": {
			before: func(s *signtest.Server, _ *sign.Keyless, env map[string]string) {
				env["SIGSTORE_ID_TOKEN"] = s.Token("sigstore", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
			},
			problem: "expired at 2026-01-02T03:04:05Z", hint: "right before signing",
		},
		"a token that is none": {
			before:  func(_ *signtest.Server, _ *sign.Keyless, env map[string]string) { env["SIGSTORE_ID_TOKEN"] = "s3cret" },
			problem: "SIGSTORE_ID_TOKEN holds no JSON Web Token", hint: "three parts",
		},
		"somebody else's token": {
			before:  func(s *signtest.Server, _ *sign.Keyless, _ map[string]string) { s.Subject = "eve@acme.test" },
			problem: "belongs to eve@acme.test (issuer https://issuer.test), want release@acme.test", hint: "sign.keyless",
		},
		"an authority that refuses": {
			before:  func(s *signtest.Server, _ *sign.Keyless, _ map[string]string) { s.Fail("/api/v2/signingCert", 403) },
			problem: "refuses (403): told to fail", hint: "know the issuer",
		},
		"an authority that is ill": {
			before:  func(s *signtest.Server, _ *sign.Keyless, _ map[string]string) { s.Fail("/api/v2/signingCert", 503) },
			problem: "certificate authority http://127.0.0.1", hint: "try again", temporary: true,
		},
		"an authority that is not there": {
			before:  func(_ *signtest.Server, k *sign.Keyless, _ map[string]string) { k.Fulcio = "http://127.0.0.1:1" },
			problem: "http://127.0.0.1:1 cannot be reached: ", hint: "try again", temporary: true,
		},
		"a log that refuses": {
			before:  func(s *signtest.Server, _ *sign.Keyless, _ map[string]string) { s.Fail("/api/v1/log/entries", 400) },
			problem: "transparency log http://127.0.0.1", hint: "nothing was signed", logged: 1,
		},
		"a log that is not there": {
			before:  func(_ *signtest.Server, k *sign.Keyless, _ map[string]string) { k.Rekor = "http://127.0.0.1:1" },
			problem: "transparency log http://127.0.0.1:1 cannot be reached: ", hint: "try again", temporary: true,
		},
		"an authority of timestamps that is not there": {
			before: func(_ *signtest.Server, k *sign.Keyless, _ map[string]string) {
				k.Timestamp = "http://127.0.0.1:1/timestamp"
			},
			problem: "timestamping authority http://127.0.0.1:1 cannot be reached: ", hint: "try again", temporary: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, k := service(t)
			env := server.Environment()
			tt.before(server, &k, env)
			made, err := keylessSigner(t, k, ambient(t, env)).Blob(t.Context(), []byte("object"))
			if made != nil || err == nil || !strings.Contains(err.Error(), tt.problem) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("made %d bytes, got %v", len(made), err)
			}
			var hinted interface{ Hint() string }
			if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), tt.hint) {
				t.Errorf("the hint of %v is not %q", err, tt.hint)
			}
			var later interface{ Temporary() bool }
			if got := errors.As(err, &later) && later.Temporary(); got != tt.temporary {
				t.Errorf("temporary: %v", got)
			}
			for _, secret := range []string{"s3cret", signtest.RequestToken} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("a secret is in the message: %v", err)
				}
			}
			if n := server.Requests("/api/v1/log/entries"); n != tt.logged {
				t.Errorf("the log was asked %d times, want %d", n, tt.logged)
			}
		})
	}
}

// TestWhatTheRootDoesNotKnowIsNoSignature has an authority whose word counts
// elsewhere.
func TestWhatTheRootDoesNotKnowIsNoSignature(t *testing.T) {
	server, k := service(t)
	_, other := service(t)
	k.TrustedRoot = other.TrustedRoot
	made, err := keylessSigner(t, k, ambient(t, server.Environment())).Blob(t.Context(), []byte("object"))
	var refused *sign.VerifyError
	if made != nil || !errors.As(err, &refused) || refused.What != "signature" {
		t.Errorf("made %d bytes, got %v", len(made), err)
	}
}

func TestWhoGivesUpSignsNothing(t *testing.T) {
	server, k := service(t)
	server.Fail("/api/v2/signingCert", 503)
	ctx, cancel := context.WithCancel(t.Context())
	s := keylessSigner(t, k, func(ctx context.Context) (string, error) {
		cancel()
		return server.Token("sigstore", time.Now().Add(time.Minute)), nil
	})
	if _, err := s.Blob(ctx, []byte("object")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestNoIdentityNoSigner(t *testing.T) {
	for name, tt := range map[string]struct {
		env  map[string]string
		text string
		hint string
	}{
		"on a laptop":               {nil, "there is none", "sign with a key"},
		"a job that may not ask":    {map[string]string{"GITHUB_ACTIONS": "true"}, "may not ask", "id-token: write"},
		"an address without secret": {map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "http://x"}, "there is none", "id-token: write"},
	} {
		_, err := sign.AmbientToken(func(n string) string { return tt.env[n] })
		var none *sign.TokenError
		if !errors.As(err, &none) || !strings.Contains(err.Error(), tt.text) || !strings.Contains(none.Hint(), tt.hint) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, k := service(t)
	missing, nobody, silent := k, k, k
	missing.TrustedRoot += ".none"
	nobody.Identity.Subject = ""
	silent.Rekor = ""
	for name, tt := range map[string]struct {
		k    sign.Keyless
		text string
	}{
		"no root": {missing, "trusted root"}, "nobody named": {nobody, "no subject"}, "nobody bears witness": {silent, "needs a certificate authority"},
	} {
		if _, err := sign.NewKeylessSigner(tt.k, nil); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
