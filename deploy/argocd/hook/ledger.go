package hook

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/ledger"
	"github.com/sluice-cd/sluice/internal/etcd"
	etcdledger "github.com/sluice-cd/sluice/internal/etcd/ledger"
	"github.com/sluice-cd/sluice/internal/release"
)

// Ledger opens the history of rollouts where sluice.yaml says that it is: in etcd,
// or in the ConfigMap NAME-ledger. It has been read once when there is no error.
func (s Settings) Ledger(ctx context.Context, cfg *rest.Config) (release.Log, error) {
	if len(s.Config.Deploy.Kubernetes.Ledger.Etcd) == 0 {
		l, err := ledger.Open(ctx, cfg, s.namespace(), s.service())
		if err != nil {
			return nil, err
		}
		return l, nil
	}
	l, err := s.etcdLedger()
	if err == nil {
		_, err = l.Records(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the ledger: %w", err)
	}
	return l, nil
}

// etcdLedger is named by namespace and service: one etcd may serve a whole cluster.
func (s Settings) etcdLedger() (*release.Shared, error) {
	files, err := s.etcdFiles()
	if err != nil {
		return nil, err
	}
	conf, err := files.TLS()
	if err != nil {
		return nil, err
	}
	client, err := etcd.New(etcd.Config{Endpoints: s.Config.Deploy.Kubernetes.Ledger.Etcd, TLS: conf})
	if err != nil {
		return nil, err
	}
	return etcdledger.Open(client, s.namespace()+"."+s.service())
}

// etcdFiles are those of the Secret, as far as it has them.
func (s Settings) etcdFiles() (etcd.Files, error) {
	var f etcd.Files
	found := false
	for name, into := range map[string]*string{"ca.crt": &f.CAFile, "tls.crt": &f.CertFile, "tls.key": &f.KeyFile} {
		if file := filepath.Join(s.Etcd, name); s.Etcd != "" && exists(file) {
			*into, found = file, true
		}
	}
	if secret := s.Config.Deploy.Kubernetes.Ledger.Secret; secret != "" && s.Etcd == podEtcd && !found {
		return f, &SettingsError{
			What:   fmt.Sprintf("the Secret %s has neither ca.crt nor tls.crt and tls.key, or is not there", secret),
			Advice: fmt.Sprintf("kubectl -n %s create secret generic %s --from-file=ca.crt --from-file=tls.crt --from-file=tls.key", s.namespace(), secret),
		}
	}
	return f, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
