package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
)

// startControllers starts kube-controller-manager, which needs the API to be
// ready: it ends if its roles are not there yet.
func startControllers(ctx context.Context, path, kubeconfig string, s *server, port int) (*process, error) {
	f := s.authority.file
	p, err := start(program{name: "kube-controller-manager", path: path, logs: s.logs, args: []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--service-account-private-key-file=" + f("sa.key"), "--root-ca-file=" + f("ca.crt"), "--use-service-account-credentials=true",
		"--cluster-signing-cert-file=" + f("ca.crt"), "--cluster-signing-key-file=" + f("ca.key"),
		"--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000", "--cert-dir=" + s.dir, "--bind-address=127.0.0.1", fmt.Sprint("--secure-port=", port),
		"--flex-volume-plugin-dir=" + s.dir, // it would be made in /usr otherwise
	}})
	if err != nil {
		return nil, err
	}
	if err := p.ready(ctx, answers(unverified, fmt.Sprintf("https://127.0.0.1:%d/healthz", port))); err != nil {
		p.stop(0)
		return nil, err
	}
	return p, nil
}

// unverified asks servers on loopback that made their certificates themselves
// whether they are up, and nothing else.
var unverified = &http.Client{Transport: &http.Transport{
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	DisableKeepAlives: true,
}}
