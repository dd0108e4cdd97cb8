package hook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"
	"github.com/sluice-cd/sluice/internal/release"
)

func TestTheHistoryMayBeInEtcd(t *testing.T) {
	server := etcdtest.Start(t)
	w := newYard(t, "ledger: {etcd: ['"+server.URL+"']}")
	w.set(func() { w.behave = failing })
	w.want("presync", 0)
	w.want("sync", 1)
	w.want("syncfail", 0)
	if r := w.last(); r.Outcome != release.RolledBack || r.Trigger != release.SLO {
		t.Errorf("recorded as %+v", r)
	}
	w.sync()
	if v := w.want("presync", 1); !strings.Contains(v.Reason, "decided before, in rollout 1") {
		t.Error(v.Sentence())
	}
	if _, err := Forget(t.Context(), w.s, w.cfg, ForgetOptions{Operator: "jane", Reason: "the database was down"}); err != nil {
		t.Fatal(err)
	}
	w.set(func() { w.behave = healthy })
	w.want("presync", 0)
	w.want("sync", 0)
	if v, err := Rollback(t.Context(), w.s, w.cfg, RollbackOptions{Operator: "jane", DryRun: true}, &bytes.Buffer{}); err != nil || v.Rollout != 2 {
		t.Errorf("a rollback would take back %+v, %v", v, err)
	}
	w.image("stable", ref("1.1.0"))
	w.want("postsync", 0)
	if st, err := Look(t.Context(), w.s, w.cfg); err != nil || st.Serves == nil || st.Serves.Version != "1.1.0" || len(st.Last) != 2 {
		t.Errorf("the status is %+v, %v", st, err)
	}
	if _, err := w.admin.get(t.Context(), object{configMaps, w.s.namespace(), "shop-ledger"}, nil); !apierrors.IsNotFound(err) {
		t.Errorf("there is a ConfigMap, too: %v", err)
	}
	server.Kill()
	w.want("presync", exitTransient)
	w.said("error", "no answer from etcd at "+server.URL)
}

// certificate writes one that vouches for itself, for both sides of a connection.
func certificate(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	private, keyErr := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err, keyErr); err != nil {
		t.Fatal(err)
	}
	public := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, filepath.Join(dir, "ca.crt"), public)
	write(t, filepath.Join(dir, "tls.crt"), public)
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	return dir
}

func TestEtcdIsShownTheCertificateOfTheSecret(t *testing.T) {
	dir := certificate(t)
	file := func(name string) string { return filepath.Join(dir, name) }
	server := etcdtest.Start(t, "--cert-file="+file("tls.crt"), "--key-file="+file("tls.key"), "--client-cert-auth", "--trusted-ca-file="+file("ca.crt"))
	c := &config.Config{Name: "shop"}
	c.Deploy.Kubernetes.Ledger = config.Ledger{Etcd: []string{server.URL}, Secret: "etcd"}
	s := Settings{Config: c, Etcd: dir}
	log, err := s.Ledger(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := log.Start(t.Context(), release.Rollout{Name: "shop", Version: "1.0.0", Started: time.Now()}); err != nil {
		t.Fatal(err)
	}
	s.Etcd = t.TempDir() // with nothing of our own
	if err := os.Link(file("ca.crt"), filepath.Join(s.Etcd, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Ledger(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "certificate") || exitCode(err) != exitUsage {
		t.Errorf("without a certificate: %v", err)
	}
	s.Etcd = podEtcd // where nothing is mounted
	var missing *SettingsError
	if _, err := s.Ledger(t.Context(), nil); !errors.As(err, &missing) || !strings.Contains(err.Error(), "the Secret etcd has neither") || !strings.Contains(missing.Hint(), "create secret generic etcd") {
		t.Errorf("without the Secret: %v", err)
	}
}
