package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// DialError means that a target is none.
type DialError struct{ Target, What string }

func (e *DialError) Error() string {
	return fmt.Sprintf("target %q: %s", e.Target, e.What)
}

// Hint shows targets.
func (e *DialError) Hint() string {
	return "a target is unix:/run/sluice-probe.sock, https://HOST:PORT or http://HOST:PORT"
}

// Dial prepares a client for "unix:PATH", "https://HOST:PORT" or, read only,
// "http://HOST:PORT". Nothing is sent yet, but the certificates are read: an
// error is a *DialError or says which file is at fault.
func Dial(target string, c Config) (*Client, error) {
	t := &http.Transport{
		DisableCompression:    true, // a small answer must not become a large one
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: 30 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConns:          2,
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second}
	client := &Client{timeout: c.Timeout, http: &http.Client{Transport: t, CheckRedirect: stay}}
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		if path == "" {
			return nil, &DialError{target, "has no path"}
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", path)
		}
		client.base = "http://localhost"
		return client, nil
	}
	u, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	t.DialContext, client.base = dialer.DialContext, u.Scheme+"://"+u.Host
	if u.Scheme == "http" {
		client.readOnly = true
		return client, nil
	}
	t.ForceAttemptHTTP2 = true
	t.TLSClientConfig, err = c.tls(u.Hostname())
	return client, err
}

func parseTarget(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	switch {
	case err != nil:
		return nil, &DialError{target, "is no URL"}
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, &DialError{target, "is neither unix:, https: nor http:"}
	case u.Hostname() == "" || u.Port() == "":
		return nil, &DialError{target, "has no host or no port"}
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, &DialError{target, "has more than a host and a port"}
	}
	return u, nil
}

// stay follows no redirect: an object is sent to nobody but the target.
func stay(*http.Request, []*http.Request) error {
	return errors.New("a probe does not redirect")
}

// tls makes the configuration for a host.
func (c Config) tls(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host}
	if (c.Certificate == "") != (c.Key == "") {
		return nil, errors.New("reading the client's certificate: certificate and key come together")
	}
	if c.Certificate != "" {
		if _, err := c.certificate(); err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.certificate() }
	}
	if _, err := c.authorities(); err != nil {
		return nil, err
	}
	if c.Server != "" && !isSPIFFE(c.Server) {
		conf.ServerName = c.Server
	}
	name := conf.ServerName
	conf.InsecureSkipVerify = true // VerifyConnection does it, with authorities read anew and SPIFFE ids
	conf.VerifyConnection = func(state tls.ConnectionState) error { return c.verify(state.PeerCertificates, name) }
	return conf, nil
}

func (c Config) certificate() (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the client's certificate: %w", err)
	}
	return &cert, nil
}

// authorities is nil for those of the system.
func (c Config) authorities() (*x509.CertPool, error) {
	if c.Authorities == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.Authorities)
	if err != nil {
		return nil, fmt.Errorf("reading certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading certificate authorities: %s holds no certificate in PEM", c.Authorities)
	}
	return pool, nil
}

// verify checks the server's chain and its name: a SPIFFE id if the
// configuration has one, otherwise a DNS name or an IP address.
func (c Config) verify(chain []*x509.Certificate, name string) error {
	if len(chain) == 0 {
		return errors.New("the server shows no certificate")
	}
	roots, err := c.authorities()
	if err != nil {
		return err
	}
	opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()} // for server authentication
	for _, cert := range chain[1:] {
		opts.Intermediates.AddCert(cert)
	}
	if !isSPIFFE(c.Server) {
		opts.DNSName = name
	}
	if _, err := chain[0].Verify(opts); err != nil {
		return err
	}
	if !isSPIFFE(c.Server) {
		return nil
	}
	// SPIFFE X.509-SVID 4.1 and 5.2: exactly one URI, compared as a whole.
	if got := chain[0].URIs; len(got) != 1 || got[0].String() != c.Server {
		return fmt.Errorf("the server is %v, expected %s", got, c.Server)
	}
	return nil
}

func isSPIFFE(name string) bool { return strings.HasPrefix(name, "spiffe://") }
