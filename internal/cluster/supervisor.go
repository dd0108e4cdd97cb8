package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// A supervisor is process 1 of a cluster: it starts everything, says what it
// does, waits, and takes everything with it when it ends.
type supervisor struct {
	state
	spec
	authority  *authority
	server     *server
	admin      *rest.Config
	kubeconfig string

	mu      sync.Mutex
	running []*process
	nodes   []*process
}

// supervise is the main function of the supervisor. It returns only errors.
func supervise(dir state) error {
	s := &supervisor{state: dir}
	if err := s.load("spec.json", &s.spec); err != nil {
		return err
	}
	go reap()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	if err := s.house(ctx); err != nil {
		return err
	}
	if err := s.fill(ctx); err != nil {
		return err
	}
	info := Info{
		Name: s.Name, Dir: string(s.state), Kubeconfig: s.kubeconfig, Registry: registryAddress, RegistryCA: s.authority.file("ca.crt"), Git: "http://" + gitAddress, GitUser: gitUser,
		ArgoCD: s.ArgoCD, Started: s.Started,
	}
	if s.Gateway {
		info.Gateway = "http://" + gatewayAddress
	}
	for n := 1; n <= s.Nodes; n++ {
		info.Nodes = append(info.Nodes, nodeAt(n))
	}
	s.say("cluster %s is up", s.Name)
	if err := s.save("ready.json", info); err != nil {
		return err
	}
	s.watch()
	return s.restarts()
}

// restarts kills kube-apiserver and starts it again, each time it is asked to.
func (s *supervisor) restarts() error {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGHUP)
	for n := 1; ; n++ {
		<-asked
		s.server.api.stop(0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err := s.server.startAPI(ctx, s.admin, s.Programs["kube-apiserver"])
		cancel()
		if err != nil {
			s.note("ended", err.Error())
		}
		if err := s.save(restartsFile, n); err != nil {
			return err
		}
	}
}

// restartsFile holds how often kube-apiserver was started again.
const restartsFile = "restarts.json"

// house makes the surroundings: control groups, mounts, network, certificates.
func (s *supervisor) house(ctx context.Context) error {
	if err := os.Chdir(string(s.state)); err != nil {
		return fmt.Errorf("entering the folder of the cluster: %w", err)
	}
	all, err := hierarchies()
	if err != nil {
		return err
	}
	if err := join(s.Groups...); err != nil { // before the folders are hidden
		return err
	}
	if err := mountHost(s.state); err != nil {
		return err
	}
	if err := onStarter(func() error { return rootGroups(all) }); err != nil {
		return err
	}
	if err := share(); err != nil {
		return err
	}
	if err := s.bin(); err != nil {
		return err
	}
	if err := hostNetwork(ctx); err != nil {
		return err
	}
	if s.authority, err = newAuthority(s.path("pki")); err != nil {
		return err
	}
	s.server = &server{dir: s.path("plane"), logs: s.logs(), address: Host, port: apiPort, etcdPort: 2379, authority: s.authority}
	s.server.extra = []string{"--enable-admission-plugins=NodeRestriction"}
	if err := s.server.certificates(); err != nil {
		return err
	}
	s.kubeconfig, s.admin, err = s.authority.kubeconfig("admin", s.server.url(), "admin", "system:masters")
	return err
}

// fill starts everything, as much as possible at once.
func (s *supervisor) fill(ctx context.Context) error {
	if err := s.serve(ctx); err != nil {
		return err
	}
	var all group
	for n := 1; n <= s.Nodes; n++ {
		if err := s.startNode(ctx, n); err != nil {
			return err
		}
	}
	if err := s.server.start(ctx, s.admin, s.Programs["etcd"], s.Programs["kube-apiserver"]); err != nil {
		return err
	}
	s.mind(s.server.etcd, s.server.api)
	s.say("the API is ready")
	all.do(func() error { return s.control(ctx) })
	all.do(func() error { return s.awaitNodes(ctx) })
	all.do(func() error {
		if err := s.define(ctx); err != nil {
			return err
		}
		var more group
		if s.ArgoCD {
			more.do(func() error { return s.argoCD(ctx) })
		}
		if s.Gateway {
			more.do(func() error { return s.gateway(ctx) })
		}
		return more.wait()
	})
	return all.wait()
}

// control starts the controllers and the scheduler.
func (s *supervisor) control(ctx context.Context) error {
	kubeconfig, _, err := s.authority.kubeconfig("controller-manager", s.server.url(), "system:kube-controller-manager")
	if err != nil {
		return err
	}
	controllers, err := startControllers(ctx, s.Programs["kube-controller-manager"], kubeconfig, s.server, 10257)
	if err != nil {
		return err
	}
	if kubeconfig, _, err = s.authority.kubeconfig("scheduler", s.server.url(), "system:kube-scheduler"); err != nil {
		return err
	}
	scheduler, err := start(program{name: "kube-scheduler", path: s.Programs["kube-scheduler"], logs: s.logs(), args: []string{
		"--kubeconfig=" + kubeconfig, "--authentication-kubeconfig=" + kubeconfig, "--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false", "--bind-address=127.0.0.1", "--cert-dir=" + s.path("pki"),
	}})
	if err != nil {
		return err
	}
	s.mind(controllers, scheduler)
	if err := scheduler.ready(ctx, answers(unverified, "https://127.0.0.1:10259/readyz")); err != nil {
		return err
	}
	s.say("controllers and scheduler are ready")
	// Pods need it, and it is made by a controller.
	return s.exists(ctx, schema.GroupVersionResource{Version: "v1", Resource: "serviceaccounts"}, "default", "default")
}

// define installs the definitions of custom resources.
func (s *supervisor) define(ctx context.Context) error {
	var documents []string
	if err := s.load("definitions.json", &documents); err != nil {
		return err
	}
	return Apply(ctx, s.admin, "", documents...)
}

// exists waits for an object.
func (s *supervisor) exists(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) error {
	client, err := dynamic.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", name, err)
	}
	err = until(ctx, time.Minute, func() error {
		_, err := client.Resource(resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	}, missing)
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", name, err)
	}
	return nil
}

// bin makes the folder with the programs that commands inside find first.
func (s *supervisor) bin() error {
	if err := os.MkdirAll(s.path("bin"), 0o755); err != nil {
		return fmt.Errorf("collecting programs: %w", err)
	}
	links := map[string]string{}
	for name, path := range s.Programs {
		links[name] = path
	}
	if argo, ok := s.Programs["argocd"]; ok { // it is the program whose name it is called by
		for _, name := range []string{"argocd-repo-server", "argocd-application-controller", "argocd-git-ask-pass"} {
			links[name] = argo
		}
	}
	for name, path := range links {
		if err := os.Symlink(path, s.path("bin", name)); err != nil {
			return fmt.Errorf("collecting programs: %w", err)
		}
	}
	return os.Setenv("PATH", s.path("bin")+":"+os.Getenv("PATH"))
}

// say tells whoever waits for the cluster.
func (s *supervisor) say(format string, args ...any) {
	s.note("progress", fmt.Sprintf("%5.1f s  ", time.Since(s.Started).Seconds())+fmt.Sprintf(format, args...))
}

// note adds a line to a file.
func (s *supervisor) note(file, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := os.OpenFile(s.path(file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(line + "\n")
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "error: writing %s: %v\n", file, err)
	}
}

// mind remembers processes that must not end.
func (s *supervisor) mind(p ...*process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, p...)
}

// watch notes which processes end though the cluster is up.
func (s *supervisor) watch() {
	for _, p := range s.running {
		if p == s.server.api {
			continue // it is restarted on purpose
		}
		go func() {
			<-p.done
			s.note("ended", strings.Split((&EndedError{Name: p.name, Err: p.err}).Error(), "\n")[0])
		}()
	}
}
