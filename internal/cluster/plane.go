package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// A Plane is a control plane without nodes: every Kubernetes API, RBAC included,
// on loopback. No controller runs (see [Plane.Controllers]), so a Deployment
// makes no pods; those that a test needs it creates itself. Service accounts are
// not demanded of pods.
type Plane struct {
	Config     *rest.Config // of an administrator, without rate limits
	Kubeconfig string       // the same as a file

	server     *server
	controller *process
	say        func(string)
}

// ControlPlane starts a control plane that ends with the test, in 3 to 6
// seconds. Its programs are built by the first test that ever needs them, which
// takes some minutes. Nothing is shared between two of them; one is enough for
// many tests if each uses a namespace of its own ([StartPlane] for TestMain).
func ControlPlane(t testing.TB) *Plane {
	t.Helper()
	p, err := StartPlane(t.Context(), t.TempDir(), func(line string) { t.Log(line) })
	if err != nil {
		t.Fatalf("starting a control plane: %v", err)
	}
	t.Cleanup(p.Stop)
	return p
}

// StartPlane starts a control plane with its data in dir, which is left when it
// stops. Its processes end with this one, however that ends. say is told what
// takes long; it may be nil.
func StartPlane(ctx context.Context, dir string, say func(string)) (*Plane, error) {
	for try := 1; ; try++ {
		p, err := startPlane(ctx, filepath.Join(dir, fmt.Sprint("plane", try)), say)
		// Free ports may be taken by others before the servers take them.
		if err == nil || !portTaken(err) || try == 5 {
			return p, err
		}
	}
}

func startPlane(ctx context.Context, dir string, say func(string)) (*Plane, error) {
	authority, err := newAuthority(dir)
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir, logs: dir, address: "127.0.0.1", port: ports[0], etcdPort: ports[1], authority: authority}
	s.extra = []string{"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none"}
	if err := s.certificates(); err != nil {
		return nil, err
	}
	p := &Plane{server: s, say: say}
	if p.Kubeconfig, p.Config, err = authority.kubeconfig("admin", s.url(), "admin", "system:masters"); err != nil {
		return nil, err
	}
	return p, p.Start(ctx)
}

// Start starts a control plane that was stopped, on the same port and with the
// same data. It returns when the API is ready.
func (p *Plane) Start(ctx context.Context) error {
	etcd, err := Binary(ctx, "etcd", p.say)
	if err != nil {
		return err
	}
	api, err := Binary(ctx, "kube-apiserver", p.say)
	if err != nil {
		return err
	}
	return p.server.start(ctx, p.Config, etcd, api)
}

// Stop kills the control plane as a crash would. What it acknowledged is kept
// for Start.
func (p *Plane) Stop() {
	p.controller.stop(0)
	p.controller = nil
	p.server.stop()
}

// Restart is Stop and Start. Watches end, clients have to connect again.
func (p *Plane) Restart(ctx context.Context) error {
	p.Stop()
	return p.Start(ctx)
}

// Controllers starts kube-controller-manager: Deployments get ReplicaSets and
// these get pods (which stay Pending), Services get EndpointSlices, Jobs get
// pods, what belongs to deleted objects is removed. A Stop ends it.
func (p *Plane) Controllers(ctx context.Context) error {
	if p.controller != nil {
		return errors.New("the controllers run already")
	}
	path, err := Binary(ctx, "kube-controller-manager", p.say)
	if err != nil {
		return err
	}
	ports, err := freePorts(1)
	if err != nil {
		return err
	}
	kubeconfig, _, err := p.server.authority.kubeconfig("controller-manager", p.server.url(), "system:kube-controller-manager")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p.controller, err = startControllers(ctx, path, kubeconfig, p.server, ports[0])
	return err
}
