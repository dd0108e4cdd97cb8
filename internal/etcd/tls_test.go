package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/etcd"
	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"
)

// authority issues certificates for a test, into files.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.issue("ca", template, nil)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// issue writes NAME.pem and NAME.key.
func (a *authority) issue(name string, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	template.SerialNumber, template.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: name}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	a.check(err)
	cert, err := x509.ParseCertificate(der)
	a.check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	a.check(os.WriteFile(a.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.check(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return cert, key
}

func (a *authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func TestEtcdClientCertificate(t *testing.T) {
	a, stranger := newAuthority(t), newAuthority(t)
	both := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} // the gateway is a client of etcd itself
	a.issue("server", &x509.Certificate{ExtKeyUsage: both, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, a)
	a.issue("node", &x509.Certificate{ExtKeyUsage: both[1:]}, a)
	stranger.issue("node", &x509.Certificate{ExtKeyUsage: both[1:]}, stranger)
	s := etcdtest.Start(t, "--cert-file="+a.path("server.pem"), "--key-file="+a.path("server.key"), "--client-cert-auth", "--trusted-ca-file="+a.path("ca.pem"))
	open := func(f etcd.Files) error {
		conf, err := f.TLS()
		if err != nil {
			return err
		}
		c, err := etcd.New(etcd.Config{Endpoints: []string{s.URL}, TLS: conf})
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Txn(t.Context(), etcd.Create("/key", []byte("value")))
		return err
	}
	good := etcd.Files{CAFile: a.path("ca.pem"), CertFile: a.path("node.pem"), KeyFile: a.path("node.key")}
	if err := open(good); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]etcd.Files{
		"no certificate":            {CAFile: good.CAFile},
		"a stranger's certificate":  {CAFile: good.CAFile, CertFile: stranger.path("node.pem"), KeyFile: stranger.path("node.key")},
		"a server nobody knows":     {CertFile: good.CertFile, KeyFile: good.KeyFile},
		"another authority":         {CAFile: stranger.path("ca.pem"), CertFile: good.CertFile, KeyFile: good.KeyFile},
		"a file that is not there":  {CAFile: a.path("none.pem")},
		"a file with nothing in it": {CAFile: a.path("ca.key")},
		"another's key":             {CAFile: good.CAFile, CertFile: good.CertFile, KeyFile: stranger.path("node.key")},
	} {
		err := open(o)
		var unavailable *etcd.UnavailableError
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if o.CertFile != "" && errors.As(err, &unavailable) && (unavailable.Temporary() || !strings.Contains(unavailable.Hint(), "certificates")) {
			t.Errorf("%s: taken for something that passes: %v", name, err)
		}
	}
}
