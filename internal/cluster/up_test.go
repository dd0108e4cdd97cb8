package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestMain(m *testing.M) {
	Inside()
	if name := os.Getenv("SLUICE_TEST_UP"); name != "" { // a process for a test to kill
		_, err := Up(context.Background(), Options{Name: name})
		fmt.Println(err)
		os.Exit(1)
	}
	if dir := os.Getenv("SLUICE_TEST_PLANE"); dir != "" {
		p, err := StartPlane(context.Background(), dir, nil)
		fmt.Println(p.server.etcd.cmd.Process.Pid, p.server.api.cmd.Process.Pid, err)
		select {}
	}
	os.Exit(m.Run())
}

// newName is one that no other test or run uses, and is removed with the test.
func newName(t *testing.T, suffix string) string {
	name := fmt.Sprintf("test-%d-%s", os.Getpid(), suffix)
	t.Cleanup(func() {
		if err := Down(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return name
}

// picture is what a cluster might change on the machine, and must not. Other
// tests may run meanwhile, so it is about what clusters do.
func picture(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	for name := range sysctls {
		raw, _ := os.ReadFile(filepath.Join("/proc/sys", name))
		seen["sysctl "+name] = string(raw)
	}
	for _, dir := range []string{
		"/opt/containerd", "/opt/cni", "/usr/libexec/kubernetes", "/var/lib/kubelet", "/var/lib/cni", "/var/log/pods", "/var/log/containers",
		"/etc/cni", "/etc/kubernetes", "/run/containerd", "/run/cni", "/run/registries", "/run/kubelet-plugins",
	} {
		_, err := os.Stat(dir)
		seen["folder "+dir] = fmt.Sprint(err == nil)
	}
	for file, words := range map[string][]string{
		"/proc/self/mounts": {"sluice/cluster", "kubelet", "containerd", "/proc/sys", "/var/lib", "/var/log"},
		"/proc/net/dev":     {lan, "port1", "port2", "pods0"},
		"/proc/net/route":   {lan, "pods0"},
	} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(line, word) }) {
				seen[file] += strings.Fields(line)[0] + "\n"
			}
		}
	}
	rules, err := exec.Command("iptables-save").Output()
	if err != nil {
		t.Fatalf("iptables-save: %v", err)
	}
	seen["packet filter"] = fmt.Sprint("kube-proxy's: ", bytes.Contains(rules, []byte("KUBE-")))
	return seen
}

// remains looks for anything of a cluster.
func remains(t *testing.T, name string) {
	t.Helper()
	all, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if _, err := os.Stat(h.group(groupPrefix + name)); err == nil {
			t.Errorf("%s is left", h.group(groupPrefix+name))
		}
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, file := range files {
		raw, _ := os.ReadFile(file)
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(file), "stat"))
		if bytes.Contains(stat, []byte(") Z ")) {
			continue // dead; whoever got it when its parent was killed may leave it so
		}
		if bytes.Contains(raw, []byte(groupPrefix+name)) {
			t.Errorf("a process is left: %s", file)
		}
	}
	s, err := stateOf(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{string(s), string(s) + ".lock"} {
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s is left", file)
		}
	}
}

const pods = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: pod, namespace: shop}
spec:
  selector: {matchLabels: {app: pod}}
  template:
    metadata: {labels: {app: pod}}
    spec:
      hostPID: true
      terminationGracePeriodSeconds: 0
      containers:
      - name: pod
        image: IMAGE
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
        securityContext: {privileged: true}
        volumeMounts: [{name: bpf, mountPath: /sys/fs/bpf}, {name: groups, mountPath: /node-cgroup}]
      volumes: [{name: bpf, hostPath: {path: /sys/fs/bpf}}, {name: groups, hostPath: {path: GROUPS}}]
---
apiVersion: v1
kind: Service
metadata: {name: pod, namespace: shop}
spec: {clusterIP: 10.96.7.7, selector: {app: pod}, ports: [{port: 80, targetPort: 8080}]}
`

// needCluster goes on only if the machine can run one.
func needCluster(t *testing.T) {
	t.Helper()
	testenv.NeedRoot(t)
	for _, program := range append(slices.Clone(distribution), "iptables-save", filepath.Join(cniPlugins(), "host-local")) {
		testenv.Need(t, program)
	}
}

func TestCluster(t *testing.T) {
	needCluster(t)
	before := picture(t)
	one, two := newName(t, "one"), newName(t, "two")
	var infos [2]*Info
	var both group
	both.do(func() (err error) {
		infos[0], err = Up(t.Context(), Options{Name: one, Nodes: 2, Say: func(line string) { t.Log("one: " + line) }})
		return err
	})
	both.do(func() (err error) {
		infos[1], err = Up(t.Context(), Options{Name: two, Say: func(line string) { t.Log("two: " + line) }})
		return err
	})
	if err := both.wait(); err != nil {
		t.Fatal(err)
	}
	t.Run("runs pods on every node that reach each other", func(t *testing.T) { podsTest(t, infos[0]) })
	t.Run("is apart from another one at the same addresses", func(t *testing.T) { strangersTest(t, infos) })
	t.Run("runs commands inside", func(t *testing.T) { commandsTest(t, infos[0]) })
	t.Run("that is up is up", func(t *testing.T) {
		info, err := Up(t.Context(), Options{Name: one})
		if err != nil || info.PID != infos[0].PID {
			t.Errorf("another one came up: %+v, %v", info, err)
		}
		if _, err := Up(t.Context(), Options{Name: two, Nodes: 2}); err == nil {
			t.Error("a second node was promised to a cluster with one")
		}
	})
	t.Run("whose supervisor was killed is down, and leaves nothing", func(t *testing.T) {
		if err := syscall.Kill(infos[1].PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := until(t.Context(), 5*time.Second, func() error {
			if _, _, err := Status(two); !errors.Is(err, ErrDown) {
				return fmt.Errorf("status: %w", err)
			}
			return nil
		}, func(error) bool { return true }); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{one, two} {
		if err := Down(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		remains(t, name)
	}
	if diff := cmp.Diff(before, picture(t)); diff != "" {
		t.Errorf("the machine was changed: %s", diff)
	}
}

// get asks a URL in the cluster's network and returns the words of the answer.
func get(info *Info, url string) ([]string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: info.DialContext, DisableKeepAlives: true}}
	res, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, res.Status, body)
	}
	return strings.Fields(string(body)), err
}

func podsTest(t *testing.T, info *Info) {
	program := filepath.Join(t.TempDir(), "pod")
	if _, err := goOutput(t.Context(), "testdata/pod", "build", "-o", program, "main.go"); err != nil {
		t.Fatal(err)
	}
	image, err := info.PushImage(t.Context(), program, "pod:1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := info.Config()
	if err != nil {
		t.Fatal(err)
	}
	groups := "/sys/fs/cgroup/unified"
	if all, _ := hierarchies(); len(all) == 1 {
		groups = "/sys/fs/cgroup"
	}
	if err := Apply(t.Context(), cfg, "", replace(pods, "IMAGE", image, "GROUPS", groups)); err != nil {
		t.Fatal(err)
	}
	addresses := map[string]string{} // by node
	err = until(t.Context(), time.Minute, func() error {
		list, err := client(t, cfg).Resource(schema.GroupVersionResource{Version: "v1", Resource: "pods"}).Namespace("shop").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range list.Items {
			if err := conditionTrue(&pod, "Ready"); err != nil {
				return err
			}
			status, spec := pod.Object["status"].(map[string]any), pod.Object["spec"].(map[string]any)
			addresses[spec["nodeName"].(string)] = status["podIP"].(string)
		}
		if len(addresses) != 2 {
			return fmt.Errorf("pods on %d nodes, want 2", len(addresses))
		}
		return nil
	}, func(error) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for node, address := range addresses {
		if got, err := get(info, "http://"+address+":8080/node"); err != nil || !strings.Contains(strings.Join(got, " "), "kubepods") || len(got) > 2 {
			t.Errorf("on %s a probe finds %q, %v", node, got, err)
		}
	}
	err = until(t.Context(), 20*time.Second, func() error {
		for node, address := range addresses { // its own address is one of those behind the service
			answer, err := get(info, "http://"+address+":8080/fetch?url="+url.QueryEscape("http://10.96.7.7/"))
			if err != nil {
				return err // kube-proxy has not heard of them yet
			}
			seen[node+" to "+strings.Join(answer, " ")] = true
		}
		if len(seen) != 4 {
			return fmt.Errorf("pods reached through the service: %v, want both from both nodes", seen)
		}
		return nil
	}, func(error) bool { return true })
	if err != nil {
		t.Error(err)
	}
}

func strangersTest(t *testing.T, infos [2]*Info) {
	list := map[string]int{}
	for _, info := range infos {
		cfg, err := info.Config()
		if err != nil {
			t.Fatal(err)
		}
		nodes, err := client(t, cfg).Resource(schema.GroupVersionResource{Version: "v1", Resource: "nodes"}).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list[info.Name[len(info.Name)-3:]] = len(nodes.Items)
	}
	if want := map[string]int{"one": 2, "two": 1}; !maps.Equal(list, want) {
		t.Errorf("nodes: %v, want %v", list, want)
	}
}

func commandsTest(t *testing.T, info *Info) {
	var out bytes.Buffer
	cmd := exec.Command("kubectl", "get", "nodes", "-o", "name")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := info.Run(t.Context(), cmd); err != nil || out.String() != "node/node1\nnode/node2\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	exit := (*exec.ExitError)(nil)
	if err := info.Run(t.Context(), exec.Command("sh", "-c", "exit 7")); !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("the command's status is %v, want 7", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := info.Run(ctx, exec.Command("sleep", "60")); err == nil {
		t.Error("a command outlived its context")
	}
}

func TestUpThatIsKilledLeavesNothingAfterDown(t *testing.T) {
	needCluster(t)
	before := picture(t)
	name := newName(t, "killed")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SLUICE_TEST_UP="+name)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := stateOf(name)
	if err != nil {
		t.Fatal(err)
	}
	err = until(t.Context(), time.Minute, func() error {
		_, err := os.Stat(filepath.Join(s.logs(), "node1-kubelet.log"))
		return err
	}, func(error) bool { return true })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	remains(t, name)
	if diff := cmp.Diff(before, picture(t)); diff != "" {
		t.Errorf("the machine was changed: %s", diff)
	}
}
