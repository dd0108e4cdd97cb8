package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// An authority signs the certificates of one cluster.
type authority struct {
	dir  string // where its files are written
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// lifetime of certificates: longer than any cluster for tests runs.
const lifetime = 30 * 24 * time.Hour

// newAuthority makes a certificate authority and writes ca.crt, ca.key, and
// sa.key and sa.pub for service account tokens into dir.
func newAuthority(dir string) (*authority, error) {
	a := &authority{dir: dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "sluice-cluster"}, SerialNumber: serial(),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key, _, err := encodeKey(a.key)
	if err != nil {
		return nil, err
	}
	tokens, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making certificates: %w", err)
	}
	tokenKey, tokenPub, err := encodeKey(tokens)
	if err != nil {
		return nil, err
	}
	return a, a.write(map[string][]byte{"ca.crt": a.pem, "ca.key": key, "sa.key": tokenKey, "sa.pub": tokenPub})
}

// issue makes a certificate for client and server use. Groups are what
// Kubernetes takes as the user's groups; names are DNS names and IP addresses.
func (a *authority) issue(user string, groups, names []string) (cert, key []byte, err error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: user, Organization: groups}, SerialNumber: serial(),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("making the certificate of %s: %w", user, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("making the certificate of %s: %w", user, err)
	}
	key, _, err = encodeKey(private)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, err
}

// issueFiles is issue into NAME.crt and NAME.key.
func (a *authority) issueFiles(name, user string, groups, names []string) error {
	cert, key, err := a.issue(user, groups, names)
	if err != nil {
		return err
	}
	return a.write(map[string][]byte{name + ".crt": cert, name + ".key": key})
}

// kubeconfig writes NAME.kubeconfig for a user of the server and returns its
// path and the same as a configuration without client side rate limits.
func (a *authority) kubeconfig(name, server, user string, groups ...string) (string, *rest.Config, error) {
	cert, key, err := a.issue(user, groups, nil)
	if err != nil {
		return "", nil, err
	}
	c := api.NewConfig()
	c.Clusters["cluster"] = &api.Cluster{Server: server, CertificateAuthorityData: a.pem}
	c.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: cert, ClientKeyData: key}
	c.Contexts["cluster"] = &api.Context{Cluster: "cluster", AuthInfo: name}
	c.CurrentContext = "cluster"
	path := filepath.Join(a.dir, name+".kubeconfig")
	if err := clientcmd.WriteToFile(*c, path); err != nil {
		return "", nil, fmt.Errorf("writing %s: %w", path, err)
	}
	cfg, err := Config(path)
	return path, cfg, err
}

// Config reads a kubeconfig. Requests are not slowed down on the client's side.
func Config(kubeconfig string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", kubeconfig, err)
	}
	cfg.QPS = -1
	return cfg, nil
}

func (a *authority) write(files map[string][]byte) error {
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(a.dir, name), data, 0o600); err != nil {
			return fmt.Errorf("writing certificates: %w", err)
		}
	}
	return nil
}

// file is the path of one of the files.
func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

func encodeKey(key *ecdsa.PrivateKey) (private, public []byte, err error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encoding a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}), nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // the machine has no randomness: nothing can go on
	}
	return n
}
