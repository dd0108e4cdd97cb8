package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Options say what a cluster has. The zero value is one node and nothing else.
type Options struct {
	Name    string       // "default" if empty; clusters of different names are strangers
	Nodes   int          // 1 if 0
	ArgoCD  bool         // also Redis, the repository server and the application controller
	Gateway bool         // also Traefik as the gateway infra/web
	Say     func(string) `json:"-"` // told what happens; may be nil
}

// A spec is what the supervisor is told.
type spec struct {
	Options
	Programs map[string]string // by name
	Groups   []string          // folders of control groups, in the order of hierarchies
	Started  time.Time
}

// A MissingError names programs of the distribution that a cluster needs.
type MissingError struct{ Programs []string }

func (e *MissingError) Error() string {
	return "not in PATH: " + strings.Join(e.Programs, ", ")
}

// Hint says what installs them.
func (e *MissingError) Hint() string { return "tools/setup.sh e2e installs them on Debian" }

// longest time from the start of the supervisor until everything is ready.
const longest = 3 * time.Minute

// Up starts a cluster and returns when it is ready: about 15 seconds, and 10 more
// with Argo CD, after the programs were built once. The cluster stays until
// [Down]. If it is up already, that is all. If ctx is cancelled before it is
// ready, everything is removed again; after a failure the logs stay.
//
// The program that calls Up must call [Inside] first thing in main.
func Up(ctx context.Context, o Options) (*Info, error) {
	o.Name, o.Nodes = orDefault(o.Name, "default"), max(o.Nodes, 1)
	if o.Say == nil {
		o.Say = func(string) {}
	}
	s, err := stateOf(o.Name)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a cluster with nodes needs root")
	}
	if err := needed(o); err != nil {
		return nil, err
	}
	sp := spec{Options: o, Started: time.Now()}
	if sp.Programs, err = programs(ctx, o); err != nil {
		return nil, err
	}
	unlock, err := lock(string(s))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if info, ended, err := Status(o.Name); err == nil {
		return info, fits(o, info, ended)
	}
	if err := s.remove(ctx); err != nil { // what a killed one left
		return nil, err
	}
	sp.Started = time.Now()
	info, err := s.launch(ctx, sp)
	if err != nil {
		// ctx may have ended, which must not keep the remains alive.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if errors.Is(ctx.Err(), context.Canceled) { // nobody wonders why
			return nil, errors.Join(err, s.remove(clean), os.Remove(string(s)+".lock"))
		}
		return nil, errors.Join(fmt.Errorf("%w (all logs are in %s)", err, s.logs()), s.end(clean))
	}
	return info, nil
}

// fits says whether a cluster that is up has what is asked for.
func fits(o Options, info *Info, ended []string) error {
	switch {
	case len(ended) > 0:
		return fmt.Errorf("cluster %s is up, but not whole (down, then up): %s", o.Name, ended[0])
	case o.ArgoCD && !info.ArgoCD, o.Gateway && info.Gateway == "", o.Nodes > len(info.Nodes):
		return fmt.Errorf("cluster %s is up with less than is asked for (down, then up)", o.Name)
	}
	return nil
}

// distribution are the programs that are not built here.
var distribution = []string{"containerd", "runc", "ip", "iptables", "ipset", "conntrack", "ethtool", "socat", "git"}

// needed looks for the programs that are the distribution's.
func needed(o Options) error {
	want := distribution
	if o.ArgoCD {
		want = append(slices.Clone(want), "redis-server")
	}
	var e MissingError
	for _, name := range want {
		if _, err := exec.LookPath(name); err != nil {
			e.Programs = append(e.Programs, name)
		}
	}
	if cniPlugins() == "" {
		e.Programs = append(e.Programs, "CNI plugins (bridge, host-local, portmap)")
	}
	if len(e.Programs) > 0 {
		return &e
	}
	return nil
}

// cniPlugins is the folder of the network plugins: Debian's, or everybody
// else's.
func cniPlugins() string {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil {
			return dir
		}
	}
	return ""
}

// Build builds what [Up] with these options needs and is not in the cache: about
// 17 minutes for everything on two cores, of which say is told.
func Build(ctx context.Context, o Options) error {
	_, err := programs(ctx, o)
	return err
}

// programs builds what is not in the cache and returns where all are.
func programs(ctx context.Context, o Options) (map[string]string, error) {
	names := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl", "kustomize"}
	if o.ArgoCD {
		names = append(names, "argocd")
	}
	if o.Gateway {
		names = append(names, "traefik")
	}
	paths := map[string]string{}
	for _, name := range names {
		path, err := Binary(ctx, name, o.Say)
		if err != nil {
			return nil, err
		}
		paths[name] = path
	}
	return paths, nil
}

// launch makes the folder and the control groups, starts the supervisor in
// namespaces of its own and waits until it says that all is ready.
func (s state) launch(ctx context.Context, sp spec) (*Info, error) {
	if err := os.MkdirAll(s.logs(), 0o755); err != nil {
		return nil, fmt.Errorf("making the folder of the cluster: %w", err)
	}
	if err := buildPause(ctx, s.path("pause")); err != nil {
		return nil, err
	}
	if err := s.definitions(ctx, sp.Options); err != nil {
		return nil, err
	}
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	for _, h := range all { // said before they are made, so that they are found again
		sp.Groups = append(sp.Groups, h.group(groupPrefix+sp.Name))
	}
	if err := s.save("spec.json", sp); err != nil {
		return nil, err
	}
	if _, err := makeGroups(all, groupPrefix+sp.Name); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.logs(), "supervisor.log"))
	if err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{supervisorName, string(s)}
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return s.follow(ctx, sp, cmd.Process.Pid, ended)
}

// follow passes on what the supervisor says until all is ready.
func (s state) follow(ctx context.Context, sp spec, pid int, ended <-chan error) (*Info, error) {
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	said := 0
	for {
		raw, _ := os.ReadFile(s.path("progress"))
		lines := strings.SplitAfter(string(raw), "\n")
		for ; said < len(lines)-1; said++ {
			sp.Say(strings.TrimSuffix(lines[said], "\n"))
		}
		var info Info
		if err := s.load("ready.json", &info); err == nil {
			info.PID = pid
			return &info, s.save("info.json", info)
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("starting cluster %s: %w%s", sp.Name, err, indent(telling(filepath.Join(s.logs(), "supervisor.log"))))
		case <-ctx.Done():
			return nil, fmt.Errorf("starting cluster %s: %w (after: %s)", sp.Name, ctx.Err(), strings.TrimSpace(lines[max(0, len(lines)-2)]))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// definitions leaves the definitions of custom resources where the supervisor
// finds them: inside there is no network to fetch them.
func (s state) definitions(ctx context.Context, o Options) error {
	documents, err := GatewayAPI(ctx)
	if err == nil && o.ArgoCD {
		var argo []string
		argo, err = ArgoCD(ctx)
		documents = append(documents, argo...)
	}
	if err != nil {
		return err
	}
	return s.save("definitions.json", documents)
}

// buildPause compiles the program that holds a pod's namespaces.
func buildPause(ctx context.Context, path string) error {
	dir, err := root()
	if err != nil {
		return err
	}
	_, err = goOutput(ctx, dir, "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", path, "./internal/cluster/pause/main.go")
	return err
}

func orDefault(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
