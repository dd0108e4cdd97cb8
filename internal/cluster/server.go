package cluster

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/rest"
)

// A server is etcd and kube-apiserver: what both kinds of cluster share.
type server struct {
	dir       string // etcd's data
	logs      string
	address   string // where the API is served and reached
	port      int
	etcdPort  int
	authority *authority
	extra     []string // more flags of kube-apiserver
	etcd, api *process
}

// serviceRange is where cluster IPs come from; its first address is the API's.
const (
	serviceRange = "10.96.0.0/16"
	serviceAPI   = "10.96.0.1"
	issuer       = "https://kubernetes.default.svc.cluster.local"
)

// certificates writes what kube-apiserver shows to others.
func (s *server) certificates() error {
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", "127.0.0.1", serviceAPI, s.address}
	if err := s.authority.issueFiles("apiserver", "kube-apiserver", nil, names); err != nil {
		return err
	}
	return s.authority.issueFiles("apiserver-kubelet", "kube-apiserver", []string{"system:masters"}, nil)
}

func (s *server) url() string { return "https://" + net.JoinHostPort(s.address, strconv.Itoa(s.port)) }

func (s *server) etcdURL() string { return "http://127.0.0.1:" + strconv.Itoa(s.etcdPort) }

// start starts both programs, whose paths are etcd and api, on the data that is
// in the folder. It returns when the API is ready.
func (s *server) start(ctx context.Context, admin *rest.Config, etcd, api string) error {
	var err error
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if s.etcd, err = start(program{name: "etcd", path: etcd, args: s.etcdFlags(), logs: s.logs}); err != nil {
		return err
	}
	if err := s.etcd.ready(ctx, answers(http.DefaultClient, s.etcdURL()+"/readyz")); err != nil {
		s.stop()
		return err
	}
	if err := s.startAPI(ctx, admin, api); err != nil {
		s.stop()
		return err
	}
	return nil
}

// startAPI starts kube-apiserver beside an etcd that runs.
func (s *server) startAPI(ctx context.Context, admin *rest.Config, api string) (err error) {
	if s.api, err = start(program{name: "kube-apiserver", path: api, args: s.apiFlags(), logs: s.logs}); err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(admin)
	if err != nil {
		return fmt.Errorf("asking the API server: %w", err)
	}
	return s.api.ready(ctx, answers(client, s.url()+"/readyz"))
}

// stop kills both.
func (s *server) stop() {
	s.api.stop(0)
	s.etcd.stop(0)
}

func (s *server) etcdFlags() []string {
	return []string{
		"--name=etcd", "--data-dir=" + filepath.Join(s.dir, "etcd"), "--log-level=warn",
		"--unsafe-no-fsync", // a killed process loses nothing by it, only a machine does
		"--listen-client-urls=" + s.etcdURL(), "--advertise-client-urls=" + s.etcdURL(),
		// One member has no peers: any free port will do, and no one is told.
		"--listen-peer-urls=http://127.0.0.1:0", "--initial-advertise-peer-urls=http://127.0.0.1:1", "--initial-cluster=etcd=http://127.0.0.1:1",
	}
}

func (s *server) apiFlags() []string {
	f := s.authority.file
	return append([]string{
		"--etcd-servers=" + s.etcdURL(),
		"--bind-address=" + s.address, "--advertise-address=" + s.address, "--secure-port=" + strconv.Itoa(s.port),
		"--cert-dir=" + s.dir, "--client-ca-file=" + f("ca.crt"),
		"--tls-cert-file=" + f("apiserver.crt"), "--tls-private-key-file=" + f("apiserver.key"),
		"--service-account-key-file=" + f("sa.pub"), "--service-account-signing-key-file=" + f("sa.key"), "--service-account-issuer=" + issuer,
		"--kubelet-client-certificate=" + f("apiserver-kubelet.crt"), "--kubelet-client-key=" + f("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + f("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
		"--service-cluster-ip-range=" + serviceRange, "--authorization-mode=Node,RBAC", "--allow-privileged=true",
	}, s.extra...)
}

// answers asks for a URL once; anything but 200 is an error.
func answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s: %.300s", url, res.Status, body)
		}
		return nil
	}
}

// freePorts returns n ports of loopback that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		defer l.Close() // all at once, so that no two are the same
		ports[i] = l.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}
