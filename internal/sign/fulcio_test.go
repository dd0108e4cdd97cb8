package sign_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/sign"
	"github.com/sluice-cd/sluice/internal/testenv"
)

const workflow = "acme/shop/.github/workflows/release.yml@refs/tags/v1.2.3"

// TestAgainstFulcio signs with the real certificate authority and the real
// timestamping authority of Sigstore, as a workflow of GitHub whose provider is
// this test. The log is left out: Rekor needs a database.
func TestAgainstFulcio(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts Fulcio")
	}
	testenv.NeedRoot(t) // where CI is; a laptop need not build it
	provider := startProvider(t)
	k := sign.Keyless{
		Identity: sign.Identity{Subject: "https://github.com/" + workflow, Issuer: provider.URL},
		Fulcio:   startFulcio(t, provider.URL), Timestamp: startTimestamps(t) + "/api/v1/timestamp",
	}
	k.TrustedRoot = rootOf(t, k)
	data, digest := []byte("an object"), strings.Repeat("ab", 32)
	s := keylessSigner(t, k, ambient(t, map[string]string{"SIGSTORE_ID_TOKEN": provider.token(t, "sigstore", time.Now().Add(10*time.Minute))}))
	blob, err := s.Blob(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	statement, err := s.Attest(t.Context(), sign.Statement{
		Subjects: []sign.Subject{{Name: "shop", SHA256: digest}}, PredicateType: sign.PredicateImage, Predicate: struct{}{},
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := sign.OpenIdentityVerifier(k.TrustedRoot, sign.Identity{
		SubjectRegexp: `https://github\.com/acme/shop/\.github/workflows/release\.yml@refs/tags/v.*`, Issuer: provider.URL,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Blob(data, blob); err != nil {
		t.Error(err)
	}
	if _, err := v.Attestation(statement, digest, sign.PredicateImage); err != nil {
		t.Error(err)
	}
	if err := v.Blob(data, without(t, blob, "timestampVerificationData")); err == nil {
		t.Error("accepted with nobody who vouches for the time")
	}

	// A token that the authority does not believe: signed by somebody else.
	stranger := *provider
	stranger.key = newRSA(t)
	forged := keylessSigner(t, k, ambient(t, map[string]string{"SIGSTORE_ID_TOKEN": stranger.token(t, "sigstore", time.Now().Add(time.Minute))}))
	if made, err := forged.Blob(t.Context(), data); made != nil || err == nil || !strings.Contains(err.Error(), "certificate authority") || !strings.Contains(err.Error(), "refuses (4") {
		t.Errorf("made %d bytes, got %v", len(made), err)
	}
}

// provider is an OpenID Connect provider (Discovery 1.0, RFC 7517).
type provider struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func startProvider(t *testing.T) *provider {
	t.Helper()
	p := &provider{key: newRSA(t)}
	mux := http.NewServeMux()
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": p.URL, "jwks_uri": p.URL + "/keys", "authorization_endpoint": p.URL, "response_types_supported": []string{"id_token"},
			"subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		encode := base64.RawURLEncoding.EncodeToString
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []map[string]string{{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1", "n": encode(p.key.N.Bytes()), "e": encode(big.NewInt(int64(p.key.E)).Bytes()),
		}}})
	})
	return p
}

// token is what GitHub gives to a job of a release workflow.
func (p *provider) token(t *testing.T, audience string, expires time.Time) string {
	t.Helper()
	claims := map[string]any{"iss": p.URL, "aud": audience, "exp": expires.Unix(), "iat": time.Now().Unix(), "nbf": time.Now().Add(-time.Minute).Unix()}
	for name, value := range map[string]string{
		"sub": "repo:acme/shop:ref:refs/tags/v1.2.3", "job_workflow_ref": workflow, "workflow_ref": workflow, "workflow": "release",
		"sha": strings.Repeat("1", 40), "job_workflow_sha": strings.Repeat("1", 40), "workflow_sha": strings.Repeat("1", 40), "event_name": "push",
		"repository": "acme/shop", "repository_id": "1", "repository_owner": "acme", "repository_owner_id": "2", "repository_visibility": "public",
		"ref": "refs/tags/v1.2.3", "run_id": "3", "run_attempt": "1", "runner_environment": "github-hosted",
	} {
		claims[name] = value
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"RS256","kid":"1","typ":"JWT"}`)) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, p.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + encode(signature)
}

func startFulcio(t *testing.T, issuer string) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.json")
	text := fmt.Sprintf(`{"OIDCIssuers": {%q: {"IssuerURL": %q, "ClientID": "sigstore", "Type": "github-workflow"}}}`, issuer, issuer)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	start(t, "fulcio", "serve", "--ca=ephemeralca", "--ct-log-url=", "--config-path="+config, "--host=127.0.0.1", "--port="+port,
		"--grpc-host=127.0.0.1", "--grpc-port="+freePort(t), "--metrics-port="+freePort(t), "--legacy-unix-domain-socket="+filepath.Join(dir, "s"))
	return "http://127.0.0.1:" + port
}

func startTimestamps(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	start(t, "timestamp-server", "serve", "--host=127.0.0.1", "--port="+port, "--timestamp-signer=memory", "--disable-ntp-monitoring")
	return "http://127.0.0.1:" + port
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// start runs a server of Sigstore until the test ends.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	path, err := cluster.Binary(t.Context(), name, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.Dir = &said, &said, t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, said.String())
		}
	})
}

// rootOf asks both authorities for their certificates, as somebody does once who
// writes a trusted root.
func rootOf(t *testing.T, k sign.Keyless) string {
	t.Helper()
	var bundle struct {
		Chains []struct{ Certificates []string }
	}
	if err := json.Unmarshal(get(t, k.Fulcio+"/api/v2/trustBundle"), &bundle); err != nil || len(bundle.Chains) != 1 {
		t.Fatalf("trust bundle %+v, %v", bundle, err)
	}
	chain := certificates(t, []byte(strings.Join(bundle.Chains[0].Certificates, "\n")))
	stamps := certificates(t, get(t, k.Timestamp+"/certchain"))
	since, until := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	last := func(list []*x509.Certificate) *x509.Certificate { return list[len(list)-1] }
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01,
		[]root.CertificateAuthority{&root.FulcioCertificateAuthority{
			Root: last(chain), Intermediates: chain[:len(chain)-1], URI: k.Fulcio, ValidityPeriodStart: since, ValidityPeriodEnd: until,
		}}, nil,
		[]root.TimestampingAuthority{&root.SigstoreTimestampingAuthority{
			Root: last(stamps), Leaf: stamps[0], Intermediates: stamps[1 : len(stamps)-1], URI: k.Timestamp, ValidityPeriodStart: since, ValidityPeriodEnd: until,
		}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(trusted)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "trusted_root.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// get waits for a server to come up.
func get(t *testing.T, from string) []byte {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		resp, err := client.Get(from)
		if err == nil {
			raw, readErr := io.ReadAll(resp.Body)
			resp.Body.Close()
			if readErr == nil && resp.StatusCode == http.StatusOK {
				return raw
			}
			err = fmt.Errorf("%s: %s, %w", resp.Status, raw, readErr)
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func certificates(t *testing.T, raw []byte) []*x509.Certificate {
	t.Helper()
	var list []*x509.Certificate
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, cert)
	}
	if len(list) == 0 {
		t.Fatalf("no certificate in %s", raw)
	}
	return list
}
