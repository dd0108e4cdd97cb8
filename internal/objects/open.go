package objects

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Options are what [Open] needs besides the place. The zero value will do for a
// directory, and for an etcd that asks for nothing.
type Options struct {
	CAFile   string // PEM: who may vouch for etcd; "": the certificates of the system
	CertFile string // PEM: our certificate, with KeyFile
	KeyFile  string
	User     string // log-in by password
	Password string
}

// Open opens the history at a place, "dir:PATH" or "etcd:URL[,URL…]", for
// somebody with the name by.
func Open(place, by string, opts Options) (*History, error) {
	kind, rest, _ := strings.Cut(place, ":")
	switch {
	case kind == "dir" && rest != "":
		return Dir(rest, by)
	case kind == "etcd" && rest != "":
		conf, err := opts.tls()
		if err != nil {
			return nil, fmt.Errorf("opening the history of objects in etcd: %w", err)
		}
		return Etcd(EtcdConfig{Endpoints: strings.Split(rest, ","), TLS: conf, User: opts.User, Password: opts.Password}, by)
	}
	return nil, fmt.Errorf("history of objects %q, want dir:PATH or etcd:https://host:2379", place)
}

func (o Options) tls() (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		text, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: no certificate in it", o.CAFile)
		}
	}
	switch {
	case o.CertFile == "" && o.KeyFile == "":
		return conf, nil
	case o.CertFile == "" || o.KeyFile == "":
		return nil, errors.New("a certificate and its key belong together: give both or none")
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	// Read again for every connection: certificates of a mesh live for an hour.
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return conf, nil
}
