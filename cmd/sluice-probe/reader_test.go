package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// TestAPrometheusThatDiesCostsNoCount kills a real Prometheus that scrapes the
// daemon, or stops it for a while: the daemon counts every request all the same,
// and lets go of the connections of the dead.
func TestAPrometheusThatDiesCostsNoCount(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Need(t, "prometheus")
	program, group, dir := build(t), testenv.TempCgroup(t), t.TempDir()
	service := manyServices(t, group, 1)[0]
	socket, logName := "unix:"+filepath.Join(dir, "probe.sock"), filepath.Join(dir, "log")
	log, err := os.Create(logName)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, "--cgroup", group, "--pin", "none", "--history", "none", "--listen", socket, "--listen", "tcp:127.0.0.1:0", "--interval", "100ms")
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
	waitFor(t, "the daemon to serve, see "+logName, func() bool { return client.Healthy(t.Context()) == nil })
	before := sockets(t, cmd.Process.Pid)

	var sent uint64
	conf := scrapes(t, tcpAddress(t, logName))
	for round := range testenv.Chaos(t, testenv.DeadPrometheus, 2) {
		prometheus := startPrometheus(t, conf)
		time.Sleep(rand.N(200 * time.Millisecond))
		death := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP}[round%2]
		if err := prometheus.Signal(death); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			fetch(t, service)
			sent++
		}
		waitFor(t, fmt.Sprint(sent, " requests"), func() bool { return requests(t, client) >= sent })
		if got := requests(t, client); got != sent {
			t.Fatalf("%d requests were counted, %d sent", got, sent)
		}
		_ = prometheus.Signal(syscall.SIGKILL)
		_, _ = prometheus.Wait()
	}
	waitFor(t, "the connections to go", func() bool { return sockets(t, cmd.Process.Pid) <= before })
}

// waitFor waits with a generous limit.
func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// requests are those that the daemon has counted.
func requests(t *testing.T, client *wire.Client) (sum uint64) {
	t.Helper()
	s, err := client.Snapshot(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for w, c := range s.Workloads {
		if !w.Outgoing() {
			sum += c.Requests
		}
	}
	return sum
}

// sockets is how many a process has open.
func sockets(t *testing.T, pid int) (n int) {
	t.Helper()
	list, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range list {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// scrapes writes the configuration of a Prometheus that asks target all the time.
func scrapes(t *testing.T, target string) string {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "prometheus.yml")
	text := fmt.Sprintf("scrape_configs:\n- job_name: probe\n  scrape_interval: 50ms\n  scrape_timeout: 50ms\n  static_configs:\n  - targets: [%q]\n", target)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return conf
}

// startPrometheus returns when the server has scraped its target.
func startPrometheus(t *testing.T, conf string) *os.Process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command("prometheus", "--config.file="+conf, "--storage.tsdb.path="+t.TempDir(), "--web.listen-address="+addr, "--log.level=error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	waitFor(t, "Prometheus to scrape", func() bool {
		resp, err := http.Get("http://" + addr + "/api/v1/query?query=up")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return err == nil && strings.Contains(string(text), `,"1"]`)
	})
	return cmd.Process
}
