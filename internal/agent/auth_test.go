package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a certificate authority of the tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // its certificate, PEM
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.write(a.file, "CERTIFICATE", der)
	return a
}

func (a *authority) write(file, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// issue makes a certificate and returns its files and itself.
func (a *authority) issue(ids, names []string) (certFile, keyFile string, pair tls.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	for _, id := range ids {
		u, err := url.Parse(id)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	a.write(certFile, "CERTIFICATE", der)
	a.write(keyFile, "PRIVATE KEY", raw)
	return certFile, keyFile, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestWhoMayDoWhat asks an agent over every kind of connection.
func TestWhoMayDoWhat(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	cert, key, _ := ours.issue(nil, []string{"localhost"})
	secure := TLS{Cert: cert, Key: key, ClientCA: ours.file}
	l := newLab(t, func(c *Config) {
		c.TLS, c.Listen = secure, append(c.Listen, "tcp:127.0.0.1:0")
		c.Allow = Allow{SPIFFE: []string{"spiffe://shop/ns/*/sa/gate"}, DNS: []string{"gate.shop.svc"}}
	})
	plain := newLab(t, func(c *Config) { c.Listen = append(c.Listen, "tcp:127.0.0.1:0") })
	of := func(a *authority, ids, names []string) *tls.Certificate {
		_, _, pair := a.issue(ids, names)
		return &pair
	}
	const (
		ok, unauthorized, forbidden, conflict = http.StatusOK, http.StatusUnauthorized, http.StatusForbidden, http.StatusConflict
		refused                               = 0 // no connection at all
	)
	for name, tt := range map[string]struct {
		url                  string
		cert                 *tls.Certificate
		health, read, change int
	}{
		"plain TCP":                        {"http://" + plain.tcp(), nil, ok, ok, forbidden},
		"no certificate":                   {"https://" + l.tcp(), nil, ok, unauthorized, unauthorized},
		"an allowed SPIFFE id":             {"https://" + l.tcp(), of(ours, []string{"spiffe://shop/ns/sluice/sa/gate"}, nil), ok, ok, conflict},
		"another SPIFFE id":                {"https://" + l.tcp(), of(ours, []string{"spiffe://shop/ns/sluice/sa/web"}, nil), ok, ok, forbidden},
		"a longer SPIFFE id":               {"https://" + l.tcp(), of(ours, []string{"spiffe://shop/ns/a/b/sa/gate"}, nil), ok, ok, forbidden},
		"two SPIFFE ids":                   {"https://" + l.tcp(), of(ours, []string{"spiffe://shop/ns/a/sa/gate", "spiffe://shop/ns/b/sa/gate"}, nil), ok, ok, forbidden},
		"an allowed name":                  {"https://" + l.tcp(), of(ours, nil, []string{"Gate.shop.svc"}), ok, ok, conflict},
		"another name":                     {"https://" + l.tcp(), of(ours, nil, []string{"gate.shop.svc.evil"}), ok, ok, forbidden},
		"an allowed id by a foreign issue": {"https://" + l.tcp(), of(theirs, []string{"spiffe://shop/ns/sluice/sa/gate"}, nil), refused, refused, refused},
	} {
		client := clientOf(ours, tt.cert)
		if got := status(client.Get(tt.url + "/healthz")); got != tt.health {
			t.Errorf("%s: health %d, want %d", name, got, tt.health)
		}
		if got := status(client.Get(tt.url + "/v1/snapshot")); got != tt.read {
			t.Errorf("%s: reading %d, want %d", name, got, tt.read)
		}
		if got := status(client.Post(tt.url+"/v1/rollback", "", nil)); got != tt.change { // there is nothing to go back to: a conflict
			t.Errorf("%s: changing %d, want %d", name, got, tt.change)
		}
		client.CloseIdleConnections()
	}
}

// tcp is the address of the second listener, which is told after the first one.
func (l *lab) tcp() string {
	l.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		for line := range strings.Lines(l.log.String()) {
			if _, address, ok := strings.Cut(strings.TrimSpace(line), "on=tcp:"); ok {
				return address
			}
		}
	}
	l.t.Fatalf("no TCP listener\n%s", l.log.String())
	return ""
}

func clientOf(a *authority, cert *tls.Certificate) *http.Client {
	conf := &tls.Config{RootCAs: x509.NewCertPool()}
	conf.RootCAs.AddCert(a.cert)
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	return &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: conf}}
}

func status(resp *http.Response, err error) int {
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestUsersOfASocket(t *testing.T) {
	allow := Allow{UIDs: []uint32{1000}}
	for name, tt := range map[string]struct {
		peer any
		may  bool
	}{
		"root":                    {&conn{uid: 0, local: true}, true},
		"a named user":            {&conn{uid: 1000, local: true}, true},
		"another user":            {&conn{uid: 1001, local: true}, false},
		"nobody knows who":        {&conn{}, false},
		"a request from nowhere":  {nil, false},
		"user 0, but over a port": {&conn{uid: 0}, false},
	} {
		r, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, tt.peer), http.MethodPost, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		err = allow.mayWrite(r)
		var refused *ForbiddenError
		if (err == nil) != tt.may || err != nil && (!errors.As(err, &refused) || refused.Hint() == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPatternsThatMatchNothingAreRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		allow Allow
		ok    bool
	}{
		"nothing":          {Allow{}, true},
		"ids and names":    {Allow{SPIFFE: []string{"spiffe://a/*"}, DNS: []string{"a.b"}}, true},
		"an id without //": {Allow{SPIFFE: []string{"a/b"}}, false},
		"a broken pattern": {Allow{SPIFFE: []string{"spiffe://a/["}}, false},
		"a wildcard name":  {Allow{DNS: []string{"*.shop"}}, false},
		"an empty name":    {Allow{DNS: []string{""}}, false},
	} {
		if err := tt.allow.Check(); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTLSFilesThatDoNotFit(t *testing.T) {
	a := newAuthority(t)
	cert, key, _ := a.issue(nil, []string{"localhost"})
	_, otherKey, _ := a.issue(nil, []string{"localhost"})
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		files TLS
		says  string
	}{
		"plain":                     {TLS{}, ""},
		"TLS":                       {TLS{Cert: cert, Key: key}, ""},
		"mutual TLS":                {TLS{Cert: cert, Key: key, ClientCA: a.file}, ""},
		"no key":                    {TLS{Cert: cert}, "belong together"},
		"clients without a server":  {TLS{ClientCA: a.file}, "--tls-client-ca needs"},
		"the key of another":        {TLS{Cert: cert, Key: otherKey}, "does not match"},
		"no such file":              {TLS{Cert: cert, Key: key + "x"}, "no such file"},
		"no such authorities":       {TLS{Cert: cert, Key: key, ClientCA: a.file + "x"}, "reading the authorities of clients: open "},
		"authorities without a one": {TLS{Cert: cert, Key: key, ClientCA: empty}, "no certificate in"},
	} {
		err := tt.files.Check()
		if tt.says == "" && err != nil || tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
}
