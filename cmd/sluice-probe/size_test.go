package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// What the privileged process may be, and hold.
const (
	maxBinary  = 18_000_000
	maxModules = 35
	maxRSS     = 40 << 20
)

// allowed lists the modules that may be linked into the privileged process, each
// with its reason.
var allowed = map[string]string{
	"github.com/cilium/ebpf":              "loads and reads the probe",
	"github.com/elastic/go-seccomp-bpf":   "makes the system call filter",
	"golang.org/x/net":                    "assembles that filter",
	"golang.org/x/sys":                    "system calls",
	"github.com/prometheus/client_golang": "/metrics",
	"github.com/prometheus/client_model":  "/metrics: native histograms",
	"github.com/prometheus/common":        "/metrics: text and protobuf formats",
	"github.com/prometheus/procfs":        "of client_golang",
	"github.com/beorn7/perks":             "of client_golang",
	"github.com/cespare/xxhash/v2":        "of client_golang",
	"github.com/munnerz/goautoneg":        "of prometheus/common",
	"google.golang.org/protobuf":          "/metrics, OTLP and /v1/snapshot",
	"go.opentelemetry.io/proto/otlp":      "OTLP: the messages",
}

// forbidden are words in import paths that have no place in a privileged
// process, whatever the list above says.
var forbidden = []string{"k8s.io", "argo", "syft", "cosign", "sigstore", "open-policy-agent", "cobra", "etcd.io", "dagger", "google.golang.org/grpc"}

func TestWhatIsLinkedIntoThePrivilegedProcess(t *testing.T) {
	testenv.Need(t, "go")
	cmd := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}}", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	linked := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, module, _ := strings.Cut(strings.TrimSpace(line), " ")
		for _, word := range forbidden {
			if strings.Contains(path, word) {
				t.Errorf("%s is linked", path)
			}
		}
		if module != "" && module != "github.com/sluice-cd/sluice" {
			linked[module] = true
		}
	}
	for module := range linked {
		if allowed[module] == "" {
			t.Errorf("module %s is linked, and nothing says why", module)
		}
	}
	for module := range allowed {
		if !linked[module] {
			t.Errorf("module %s may be linked, but is not: take it off the list", module)
		}
	}
	if len(linked) > maxModules {
		t.Errorf("%d modules are linked, at most %d may be", len(linked), maxModules)
	}
	t.Logf("%d modules", len(linked))
}

func TestTheSizeOfTheBinary(t *testing.T) {
	if os.Getenv("SLUICE_BIN") != "" {
		t.Skip("another build than the one that is shipped")
	}
	info, err := os.Stat(build(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", info.Size())
	if info.Size() > maxBinary {
		t.Errorf("the binary has %d bytes, at most %d are allowed", info.Size(), maxBinary)
	}
}

// TestMemory runs the real daemon over 100 workloads, with readers of every kind.
func TestMemory(t *testing.T) {
	testenv.NeedRoot(t)
	program, group, dir := build(t), testenv.TempCgroup(t), t.TempDir()
	urls := manyServices(t, group, 100)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	socket := "unix:" + filepath.Join(dir, "probe.sock")
	cmd := exec.Command(program, "--cgroup", group, "--pin", "none", "--history", "dir:"+dir, "--listen", socket, "--listen", "tcp:127.0.0.1:0", "--interval", "100ms")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	client, err := wire.Dial(socket, wire.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for deadline := time.Now().Add(patience); client.Healthy(t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the daemon does not serve")
		}
	}
	metrics := "http://" + tcpAddress(t, log.Name()) + "/metrics"
	var workloads int
	for range 20 {
		for _, url := range urls {
			fetch(t, url)
		}
		fetch(t, metrics)
		s, err := client.Snapshot(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		workloads = len(s.Workloads)
	}
	peak := procStatus(t, cmd.Process.Pid, "VmHWM")
	t.Logf("%d workloads, resident %d KiB, at most %d KiB", workloads, procStatus(t, cmd.Process.Pid, "VmRSS"), peak)
	if workloads < 100 {
		t.Errorf("%d workloads are told apart, want 100", workloads)
	}
	if peak<<10 > maxRSS {
		t.Errorf("%d KiB were resident, at most %d are allowed", peak, maxRSS>>10)
	}
}

// manyServices starts a service with many addresses.
func manyServices(t *testing.T, group string, n int) []string {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", serviceEnv, n))
	cmd.SysProcAttr = inGroup(dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	urls := make([]string, n)
	for i := range urls {
		if _, err := fmt.Fscanln(out, &urls[i]); err != nil {
			t.Fatal(err)
		}
		urls[i] = "http://" + urls[i]
	}
	return urls
}

func fetch(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s answers %s", url, resp.Status)
	}
}

// tcpAddress is where the daemon listens, from its log, which it may write after
// it serves on its first address.
func tcpAddress(t *testing.T, log string) string {
	t.Helper()
	var raw []byte
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var err error
		if raw, err = os.ReadFile(log); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(raw)) {
			if _, address, ok := strings.Cut(strings.TrimSpace(line), "on=tcp:"); ok && strings.HasSuffix(line, "\n") {
				if _, _, err := net.SplitHostPort(address); err == nil {
					return address
				}
			}
		}
	}
	t.Fatalf("no TCP listener in\n%s", raw)
	return ""
}

// procStatus reads a line of /proc/PID/status, in KiB.
func procStatus(t *testing.T, pid int, name string) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
	kib, err := strconv.Atoi(strings.Fields(lines[i])[1])
	if err != nil {
		t.Fatal(err)
	}
	return kib
}
