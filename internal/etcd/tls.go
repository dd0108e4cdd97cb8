package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Files are what etcd is asked with over TLS. The zero value trusts whom the system
// trusts and shows nothing of its own.
type Files struct {
	CAFile   string // PEM: who may vouch for etcd; "": the certificates of the system
	CertFile string // PEM: our certificate, with KeyFile
	KeyFile  string
}

// TLS reads the files.
func (f Files) TLS() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CAFile != "" {
		text, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: no certificate in it", f.CAFile)
		}
	}
	switch {
	case f.CertFile == "" && f.KeyFile == "":
		return conf, nil
	case f.CertFile == "" || f.KeyFile == "":
		return nil, errors.New("a certificate and its key belong together: give both or none")
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	// Read again for every connection: certificates of a mesh live for an hour.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return conf, nil
}
