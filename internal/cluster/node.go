package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

// startNode starts the process that is node n.
func (s *supervisor) startNode(ctx context.Context, n int) error {
	at := nodeAt(n)
	if err := s.authority.issueFiles("kubelet-"+at.Name, "system:node:"+at.Name, []string{"system:nodes"}, []string{at.Name, at.Address, "127.0.0.1"}); err != nil {
		return err
	}
	for name, user := range map[string][]string{"kubelet-" + at.Name: {"system:node:" + at.Name, "system:nodes"}, "proxy-" + at.Name: {"system:kube-proxy"}} {
		if _, _, err := s.authority.kubeconfig(name, s.server.url(), user[0], user[1:]...); err != nil {
			return err
		}
	}
	p, err := start(program{
		name: at.Name, path: "/proc/self/exe", argv0: nodeName, args: []string{string(s.state), strconv.Itoa(n)}, logs: s.logs(),
		attr: syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET},
	})
	if err != nil {
		return err
	}
	s.mind(p)
	s.nodes = append(s.nodes, p)
	return plugIn(ctx, n, p.cmd.Process.Pid)
}

// awaitNodes waits until the API says that the nodes are ready, and they
// themselves that services can be reached.
func (s *supervisor) awaitNodes(ctx context.Context) error {
	client, err := dynamic.NewForConfig(s.admin)
	if err != nil {
		return fmt.Errorf("waiting for nodes: %w", err)
	}
	nodes := client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"})
	var all group
	for n := 1; n <= s.Nodes; n++ {
		name := nodeAt(n).Name
		process := s.nodes[n-1]
		all.do(func() error {
			err := process.ready(ctx, func(ctx context.Context) error {
				object, err := nodes.Get(ctx, name, metav1.GetOptions{})
				if err != nil {
					return err
				}
				return conditionTrue(object, "Ready")
			})
			if err != nil {
				return err
			}
			s.say("%s is Ready", name)
			return process.ready(ctx, func(context.Context) error {
				_, err := os.Stat(s.path(name, "ready"))
				return err
			})
		})
	}
	return all.wait()
}

// conditionTrue is nil if the object has a condition of that type with status True.
func conditionTrue(o *unstructured.Unstructured, kind string) error {
	conditions, _, _ := unstructured.NestedSlice(o.Object, "status", "conditions")
	for _, c := range conditions {
		if c, ok := c.(map[string]any); ok && c["type"] == kind {
			if c["status"] == "True" {
				return nil
			}
			return fmt.Errorf("%s is not %s: %v", o.GetName(), kind, c["message"])
		}
	}
	return fmt.Errorf("%s is not %s", o.GetName(), kind)
}

// A machine is a node from its inside.
type machine struct {
	state
	Node
	n          int
	spec       spec
	containerd *process
}

// node is the main function of a node. It returns only errors.
func node(s state, number string) error {
	n, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("node number: %w", err)
	}
	m := &machine{state: s, Node: nodeAt(n), n: n}
	if err := s.load("spec.json", &m.spec); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	if err := m.house(ctx); err != nil {
		return err
	}
	if err := m.fill(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(m.own("ready"), nil, 0o644); err != nil {
		return fmt.Errorf("saying that the node is ready: %w", err)
	}
	wait := make(chan os.Signal, 1)
	signal.Notify(wait, syscall.SIGTERM)
	<-wait
	return nil
}

// own is a path in the folder of the node.
func (m *machine) own(elem ...string) string { return m.path(append([]string{m.Name}, elem...)...) }

// house makes the surroundings: control groups, mounts, network.
func (m *machine) house(ctx context.Context) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for i := range all {
		all[i].Own = "/" // the view is rooted at the cluster's group
	}
	dirs, err := makeGroups(all, m.Name)
	if err != nil {
		return err
	}
	if err := join(dirs...); err != nil { // before the folders are hidden
		return err
	}
	if err := mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := mountSys(); err != nil {
		return err
	}
	if err := mountNode(m.own()); err != nil {
		return err
	}
	if err := onStarter(func() error { return rootGroups(all) }); err != nil {
		return err
	}
	if err := share(); err != nil {
		return err
	}
	err = until(ctx, 10*time.Second, func() error {
		_, err := net.InterfaceByName("eth0")
		return err
	}, func(error) bool { return true })
	if err != nil {
		return fmt.Errorf("waiting for the node to be plugged in: %w", err)
	}
	return nodeNetwork(ctx, m.n, m.spec.Nodes)
}

// fill starts the container runtime, the kubelet and kube-proxy.
func (m *machine) fill(ctx context.Context) error {
	if err := m.configure(); err != nil {
		return err
	}
	containerd, err := exec.LookPath("containerd")
	if err != nil {
		return fmt.Errorf("starting containerd: %w", err)
	}
	if m.containerd, err = m.run("containerd", containerd, "--config="+m.own("containerd.toml")); err != nil {
		return err
	}
	err = m.containerd.ready(ctx, func(ctx context.Context) error {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", containerdSocket)
		if err != nil {
			return err
		}
		return c.Close()
	})
	if err != nil {
		return err
	}
	kubeconfig := m.path("pki", "kubelet-"+m.Name+".kubeconfig")
	kubelet, err := m.run("kubelet", m.spec.Programs["kubelet"], "--config="+m.own("kubelet.yaml"), "--kubeconfig="+kubeconfig,
		"--hostname-override="+m.Name, "--node-ip="+m.Address, "--root-dir=/var/lib/kubelet", "--cert-dir="+m.own("certs"))
	if err != nil {
		return err
	}
	proxy, err := m.run("kube-proxy", m.spec.Programs["kube-proxy"], "--config="+m.own("proxy.yaml"))
	if err != nil {
		return err
	}
	if err := kubelet.ready(ctx, answers(http.DefaultClient, "http://127.0.0.1:10248/healthz")); err != nil {
		return err
	}
	return proxy.ready(ctx, answers(http.DefaultClient, "http://127.0.0.1:10256/healthz"))
}

// run starts a program of the node.
func (m *machine) run(name, path string, args ...string) (*process, error) {
	return start(program{name: m.Name + "-" + name, path: path, args: args, logs: m.logs()})
}

// configure writes the files that the programs of the node read.
func (m *machine) configure() error {
	fill := strings.NewReplacer(
		"DIR", m.own(), "PKI", m.path("pki"), "NAME", m.Name, "ADDRESS", m.Address, "PODS", m.Pods, "PODRANGE", podRange,
		"SOCKET", containerdSocket, "REGISTRY", registryAddress, "CNI", cniPlugins())
	for name, text := range nodeFiles {
		path := name
		if !filepath.IsAbs(path) {
			path = m.own(name)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
		if err := os.WriteFile(path, []byte(fill.Replace(text)), 0o644); err != nil {
			return fmt.Errorf("configuring the node: %w", err)
		}
	}
	return nil
}
