package agent

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// TLS names the files of a TCP listener. The zero value is plain TCP.
type TLS struct {
	Cert, Key string // PEM: the certificate of this daemon
	ClientCA  string // PEM: who may vouch for clients; "": clients are not asked for certificates
}

// Check reports what is missing or cannot be read.
func (t TLS) Check() error {
	switch {
	case (t.Cert == "") != (t.Key == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both or none")
	case t.ClientCA != "" && t.Cert == "":
		return errors.New("--tls-client-ca needs --tls-cert and --tls-key: certificates of clients are part of TLS")
	case t.Cert == "":
		return nil
	}
	_, err := t.load()
	return err
}

// server is the configuration of a listener; nil for plain TCP. The files are
// read again for every connection: certificates of a mesh live for an hour.
func (t TLS) server() (*tls.Config, error) {
	if t.Cert == "" {
		return nil, nil
	}
	if _, err := t.load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.load() },
	}, nil
}

func (t TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s with the key %s: %w", t.Cert, t.Key, err)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	if t.ClientCA == "" {
		return conf, nil
	}
	text, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the authorities of clients: %w", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("reading the authorities of clients: no certificate in %s", t.ClientCA)
	}
	// Health checks come without a certificate; the handler refuses the rest.
	conf.ClientAuth = tls.VerifyClientCertIfGiven
	return conf, nil
}

// folders are where the files are, which others replace.
func (t TLS) folders() []string {
	var list []string
	for _, file := range []string{t.Cert, t.Key, t.ClientCA} {
		if file != "" {
			list = append(list, filepath.Dir(file))
		}
	}
	return list
}
