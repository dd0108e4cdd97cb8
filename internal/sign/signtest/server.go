package signtest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-openapi/runtime"
	"github.com/sigstore/rekor/pkg/generated/models"
	"github.com/sigstore/rekor/pkg/types"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
)

// Server is a certificate authority, a transparency log and an identity provider
// behind HTTP on loopback: what a signer without a key asks. The paths are those
// of Fulcio (API v2), Rekor (API v1) and GitHub's provider; the certificates are
// made here, the log is that of the Service.
type Server struct {
	*Service
	URL     string
	Subject string // whom its tokens name
	Issuer  string // as certificates name it

	root         *root.FulcioCertificateAuthority
	intermediate *ecdsa.PrivateKey

	mu   sync.Mutex
	down map[string]failure
	seen map[string]int // path → number of requests
}

// failure is an answer in place of a good one.
type failure struct{ after, status int }

// RequestToken is what a job has to show for an identity token.
const RequestToken = "request-t0ken"

// Serve starts a server that ends with the test.
func Serve(s *Service) *Server {
	s.t.Helper()
	rootCert, rootKey, err := ca.GenerateRootCa()
	s.check(err)
	cert, key, err := ca.GenerateFulcioIntermediate(rootCert, rootKey)
	s.check(err)
	h := &Server{
		Service: s, Subject: "release@acme.test", Issuer: "https://issuer.test", intermediate: key,
		down: map[string]failure{}, seen: map[string]int{},
		root: &root.FulcioCertificateAuthority{
			Root: rootCert, Intermediates: []*x509.Certificate{cert}, URI: "https://fulcio.test",
			ValidityPeriodStart: time.Now().Add(-time.Hour), ValidityPeriodEnd: time.Now().Add(time.Hour),
		},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", h.token)
	mux.HandleFunc("POST /api/v2/signingCert", h.certify)
	mux.HandleFunc("POST /api/v1/log/entries", h.enter)
	server := httptest.NewServer(h.gate(mux))
	s.t.Cleanup(server.Close)
	h.URL = server.URL
	return h
}

// Fail lets requests for a path fail with a status; 0 ends that.
func (h *Server) Fail(path string, status int) { h.FailAfter(0, path, status) }

// FailAfter is Fail once there were so many more requests.
func (h *Server) FailAfter(more int, path string, status int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down[path] = failure{h.seen[path] + more, status}
}

// Requests is how often a path was asked for.
func (h *Server) Requests(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.seen[path]
}

// Environment is that of a job whose identity the server knows.
func (h *Server) Environment() map[string]string {
	return map[string]string{
		"GITHUB_ACTIONS": "true", "ACTIONS_ID_TOKEN_REQUEST_URL": h.URL + "/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": RequestToken,
	}
}

// TrustedRoot names the authority of the server and the log; nobody gives
// timestamps.
func (h *Server) TrustedRoot() []byte {
	h.t.Helper()
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, []root.CertificateAuthority{h.root}, nil, nil, h.complete(h.virtual.RekorLogs()))
	h.check(err)
	raw, err := json.Marshal(trusted)
	h.check(err)
	return raw
}

func (h *Server) gate(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.seen[r.URL.Path]++
		told := h.down[r.URL.Path]
		failing := told.status != 0 && h.seen[r.URL.Path] > told.after
		h.mu.Unlock()
		if failing {
			answer(w, told.status, map[string]any{"code": told.status, "message": "told to fail"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// Token is an identity token. Nobody signed it: the server believes every token.
func (h *Server) Token(audience string, expires time.Time) string {
	h.t.Helper()
	claims, err := json.Marshal(map[string]any{"iss": h.Issuer, "sub": h.Subject, "aud": audience, "exp": expires.Unix()})
	h.check(err)
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"none"}`)) + "." + encode(claims) + "." + encode([]byte("signature"))
}

func (h *Server) token(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+RequestToken {
		answer(w, http.StatusUnauthorized, map[string]string{"message": "who are you?"})
		return
	}
	answer(w, http.StatusOK, map[string]string{"value": h.Token(r.URL.Query().Get("audience"), time.Now().Add(10*time.Minute))})
}

// certify checks that the caller has the key, and names its identity.
func (h *Server) certify(w http.ResponseWriter, r *http.Request) {
	cert, err := h.certificate(r)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"code": 3, "message": err.Error()})
		return
	}
	chain := []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))}
	answer(w, http.StatusOK, map[string]any{"signedCertificateEmbeddedSct": map[string]any{"chain": map[string]any{"certificates": chain}}})
}

func (h *Server) certificate(r *http.Request) ([]byte, error) {
	var asked struct {
		PublicKeyRequest struct {
			PublicKey         struct{ Content string }
			ProofOfPossession []byte
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	subject, err := subjectOf(r.Header.Get("Authorization"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(asked.PublicKeyRequest.PublicKey.Content))
	if block == nil {
		return nil, fmt.Errorf("no key")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(subject))
	if key, ok := public.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(key, sum[:], asked.PublicKeyRequest.ProofOfPossession) {
		return nil, fmt.Errorf("the caller does not have the key")
	}
	return h.issue(subject, public)
}

func subjectOf(header string) (string, error) {
	parts := strings.Split(strings.TrimPrefix(header, "Bearer "), ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("no token")
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct{ Sub string }
	if err := json.Unmarshal(raw, &claims); err != nil {
		return "", err
	}
	return claims.Sub, nil
}

// issuerV2 is the extension with the issuer of the token, a UTF8String (Fulcio's
// list of OIDs).
var issuerV2 = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}

func (h *Server) issue(subject string, public any) ([]byte, error) {
	issuer, err := asn1.MarshalWithParams(h.Issuer, "utf8")
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Second), NotAfter: time.Now().Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: issuerV2, Value: issuer}},
	}
	if u, err := url.Parse(subject); err == nil && u.Scheme != "" {
		template.URIs = []*url.URL{u}
	} else {
		template.EmailAddresses = []string{subject}
	}
	return x509.CreateCertificate(rand.Reader, template, h.root.Intermediates[0], public, h.intermediate)
}

// enter writes an entry into the log, as Rekor does: brought into its canonical
// form, which checks the signature, and with a promise and a proof.
func (h *Server) enter(w http.ResponseWriter, r *http.Request) {
	id, entry, err := h.entry(r)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]any{"code": http.StatusBadRequest, "message": err.Error()})
		return
	}
	w.Header().Set("ETag", id)
	w.Header().Set("Location", "/api/v1/log/entries/"+id)
	answer(w, http.StatusCreated, models.LogEntry{id: entry})
}

func (h *Server) entry(r *http.Request) (id string, entry models.LogEntryAnon, err error) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return "", entry, err
	}
	proposed, err := models.UnmarshalProposedEntry(bytes.NewReader(raw), runtime.JSONConsumer())
	if err != nil {
		return "", entry, err
	}
	known, err := types.UnmarshalEntry(proposed)
	if err != nil {
		return "", entry, err
	}
	body, err := types.CanonicalizeEntry(context.Background(), known)
	if err != nil {
		return "", entry, err
	}
	logID, err := h.virtual.RekorLogID()
	if err != nil {
		return "", entry, err
	}
	now, index, text := time.Now().Unix(), int64(0), base64.StdEncoding.EncodeToString(body)
	promise, err := h.virtual.RekorSignPayload(tlog.RekorPayload{Body: text, IntegratedTime: now, LogIndex: index, LogID: logID})
	if err != nil {
		return "", entry, err
	}
	h.mu.Lock()
	proof, err := h.virtual.GetInclusionProof(body)
	h.mu.Unlock()
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:]), models.LogEntryAnon{
		Body: text, IntegratedTime: &now, LogIndex: &index, LogID: &logID,
		Verification: &models.LogEntryAnonVerification{InclusionProof: proof, SignedEntryTimestamp: promise},
	}, err
}
