package wire_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/wire"
)

// hinted is an error with advice.
type hinted struct{ error }

func (hinted) Hint() string { return "sign it first" }

// server answers as a sluice-probe does.
func server(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+wire.PathSnapshot, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != wire.MediaType {
			t.Errorf("the client accepts %q", r.Header.Get("Accept"))
		}
		s := sample(1, 3)
		w.Header().Set("Content-Type", wire.MediaType)
		_, _ = w.Write(wire.Encode(nil, &s))
	})
	mux.HandleFunc("GET "+wire.PathObjects, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = json.NewEncoder(w).Encode(wire.Objects{Loaded: bpf.Loaded{Digest: "sha256:aa"}, History: []wire.Object{{Digest: "sha256:bb", Good: true}}})
	})
	mux.HandleFunc("POST "+wire.PathObjects, func(w http.ResponseWriter, r *http.Request) {
		var q wire.SwapRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		if string(q.Bundle) != "good bundle" || q.Digest != bpf.DigestOf(q.Object) {
			wire.WriteError(w, http.StatusForbidden, fmt.Errorf("checking the object: %w", hinted{errors.New("the signature is of another object")}))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(wire.SwapResult{Digest: q.Digest, Took: time.Millisecond})
	})
	mux.HandleFunc("POST "+wire.PathRollback, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(wire.SwapResult{Digest: "sha256:bb"})
	})
	mux.HandleFunc("GET "+wire.PathReady, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

func dial(t *testing.T, target string, c wire.Config) *wire.Client {
	t.Helper()
	client, err := wire.Dial(target, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// everything tries every method; those that change something must end with want.
func everything(t *testing.T, c *wire.Client, want error) {
	t.Helper()
	ctx := context.Background()
	s, err := c.Snapshot(ctx)
	if err != nil || len(s.Workloads) != 3 {
		t.Errorf("Snapshot: %d workloads, %v", len(s.Workloads), err)
	}
	if o, err := c.Objects(ctx); err != nil || o.Loaded.Digest != "sha256:aa" || len(o.History) != 1 || !o.History[0].Good {
		t.Errorf("Objects: %v, %v", o, err)
	}
	if err := c.Healthy(ctx); err != nil {
		t.Errorf("Healthy: %v", err)
	}
	swapped, err := c.Swap(ctx, []byte("object"), []byte("good bundle"))
	if !errors.Is(err, want) || err == nil && swapped.Digest != bpf.DigestOf([]byte("object")) {
		t.Errorf("Swap: %v, %v, want %v", swapped, err, want)
	}
	if back, err := c.Rollback(ctx); !errors.Is(err, want) || err == nil && back.Digest != "sha256:bb" {
		t.Errorf("Rollback: %v, %v, want %v", back, err, want)
	}
}

func TestClientOverAUnixSocketAndPlainTCP(t *testing.T) {
	path := filepath.Join(t.TempDir(), "probe.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: server(t)}
	go func() { _ = srv.Serve(listener) }()
	defer srv.Close()
	unix := dial(t, "unix:"+path, wire.Config{})
	everything(t, unix, nil)

	_, err = unix.Swap(context.Background(), []byte("object"), []byte("bad"))
	var refused *wire.Error
	if !errors.As(err, &refused) || refused.Status != 403 || refused.Hint() != "sign it first" ||
		err.Error() != "checking the object: the signature is of another object" {
		t.Errorf("a refused object: %v", err)
	}

	plain := httptest.NewServer(server(t))
	defer plain.Close()
	everything(t, dial(t, plain.URL, wire.Config{}), wire.ErrReadOnly)
}

func TestAnswersOfABadServer(t *testing.T) {
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		want    string
	}{
		"a page instead of a snapshot":    {answer(200, "text/html", "<html>"), `is of type "text/html"`},
		"a snapshot that is none":         {answer(200, wire.MediaType, "hello"), "not a snapshot of a probe"},
		"an error without a message":      {answer(503, "application/json", "{}"), "the probe answered 503 Service Unavailable"},
		"an error that is only text":      {answer(500, "text/plain", "broken\nstack trace"), "broken"},
		"an error that paints the screen": {answer(500, "application/json", `{"error":"a\u001b[31mb\nc"}`), "a[31mb"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/else", http.StatusTemporaryRedirect)
		}, "does not redirect"},
		"an endless answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", wire.MediaType)
			for range 33 {
				_, _ = w.Write(make([]byte, 1<<20))
			}
		}, "longer than 33554432 bytes"},
		"a slow answer": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(tt.handler)
			defer srv.Close()
			timeout := time.Minute
			if tt.want == "deadline exceeded" {
				timeout = time.Second
			}
			_, err := dial(t, srv.URL, wire.Config{Timeout: timeout}).Snapshot(context.Background())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("error %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestTargetsThatAreNone(t *testing.T) {
	for target, want := range map[string]string{
		"":                           "neither unix:, https: nor http:",
		"unix:":                      "no path",
		"/run/probe.sock":            "neither",
		"https://host":               "no port",
		"https://:9465":              "no host",
		"ftp://host:1":               "neither",
		"https://host:1/v1/snapshot": "more than a host and a port",
		"https://user@host:1":        "more than a host and a port",
		"https://host:notaport":      "no URL",
	} {
		_, err := wire.Dial(target, wire.Config{})
		var bad *wire.DialError
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) || bad.Hint() == "" {
			t.Errorf("%q: %v, want a DialError with %q", target, err, want)
		}
	}
}

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.issue("ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	return a
}

// issue writes name.pem and name.key.
func (a *authority) issue(name string, c *x509.Certificate, uris []string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			a.t.Fatal(err)
		}
		c.URIs = append(c.URIs, parsed)
	}
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// serve starts a server with a certificate; clients must have one of the authority's.
func (a *authority) serve(name string) string {
	cert, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	srv := httptest.NewUnstartedServer(server(a.t))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that refuse it hang up
	srv.StartTLS()
	a.t.Cleanup(srv.Close)
	return srv.URL
}

func TestClientWithCertificates(t *testing.T) {
	const id = "spiffe://example.org/sluice-probe"
	auth := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	a, other := newAuthority(t), newAuthority(t)
	a.issue("ip", &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: auth}, nil)
	a.issue("dns", &x509.Certificate{DNSNames: []string{"probe.example.org"}, ExtKeyUsage: auth}, nil)
	a.issue("spiffe", &x509.Certificate{ExtKeyUsage: auth}, []string{id})
	a.issue("two", &x509.Certificate{ExtKeyUsage: auth}, []string{id, "spiffe://example.org/other"})
	a.issue("longer", &x509.Certificate{ExtKeyUsage: auth}, []string{id + "/x"})
	a.issue("clientonly", &x509.Certificate{ExtKeyUsage: auth[1:]}, []string{id})
	a.issue("me", &x509.Certificate{ExtKeyUsage: auth[1:]}, []string{"spiffe://example.org/gate"})
	for name, tt := range map[string]struct {
		server string
		conf   wire.Config
		want   string // of the error; empty: none
	}{
		"by its address":                    {"ip", wire.Config{}, ""},
		"by a DNS name":                     {"dns", wire.Config{Server: "probe.example.org"}, ""},
		"by a SPIFFE id":                    {"spiffe", wire.Config{Server: id}, ""},
		"another DNS name":                  {"dns", wire.Config{Server: "other.example.org"}, "valid for probe.example.org, not other.example.org"},
		"no name at all":                    {"spiffe", wire.Config{}, "127.0.0.1"},
		"a longer SPIFFE id":                {"longer", wire.Config{Server: id}, "expected " + id},
		"two SPIFFE ids":                    {"two", wire.Config{Server: id}, "expected " + id},
		"a DNS name instead of a SPIFFE id": {"dns", wire.Config{Server: id}, "expected " + id},
		"a client's certificate":            {"clientonly", wire.Config{Server: id}, "incompatible key usage"},
		"an authority nobody knows":         {"spiffe", wire.Config{Server: id, Authorities: other.file("ca.pem")}, "unknown authority"},
		"the system's authorities":          {"spiffe", wire.Config{Server: id, Authorities: "-"}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.conf.Certificate, tt.conf.Key = a.file("me.pem"), a.file("me.key")
			switch tt.conf.Authorities {
			case "":
				tt.conf.Authorities = a.file("ca.pem")
			case "-":
				tt.conf.Authorities = ""
			}
			c := dial(t, a.serve(tt.server), tt.conf)
			if tt.want == "" {
				everything(t, c, nil)
			} else if err := c.Healthy(context.Background()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	bare := dial(t, a.serve("ip"), wire.Config{Authorities: a.file("ca.pem")})
	if err := bare.Healthy(context.Background()); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestARenewedCertificateIsTaken(t *testing.T) {
	a, next := newAuthority(t), newAuthority(t)
	server := &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	a.issue("ip", server, nil)
	next.issue("ip", &x509.Certificate{IPAddresses: server.IPAddresses}, nil)
	a.issue("me", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, nil)
	next.issue("me", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, nil)
	c := dial(t, next.serve("ip"), wire.Config{Certificate: a.file("me.pem"), Key: a.file("me.key"), Authorities: a.file("ca.pem")})
	if err := c.Healthy(context.Background()); err == nil {
		t.Fatal("a server of another authority is taken")
	}
	for _, name := range []string{"me.pem", "me.key", "ca.pem"} {
		raw, err := os.ReadFile(next.file(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(a.file(name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Healthy(context.Background()); err != nil {
		t.Errorf("after the renewal: %v", err)
	}
}

func TestCertificatesThatCannotBeRead(t *testing.T) {
	a := newAuthority(t)
	empty := a.file("empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		conf wire.Config
		want string
	}{
		"a key that is missing":        {wire.Config{Certificate: a.file("ca.pem")}, "come together"},
		"a file that is missing":       {wire.Config{Certificate: a.file("x"), Key: a.file("x")}, "no such file"},
		"authorities that are none":    {wire.Config{Authorities: empty}, "holds no certificate"},
		"authorities that are missing": {wire.Config{Authorities: a.file("x")}, "no such file"},
	} {
		if _, err := wire.Dial("https://host:1", tt.conf); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
