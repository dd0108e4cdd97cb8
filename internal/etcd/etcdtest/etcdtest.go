// Package etcdtest runs a real etcd for tests, on loopback and with its data in the
// test's directory. Only tests import it.
package etcdtest

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// Server is one member of a real etcd on loopback.
type Server struct {
	URL  string // of the client port
	args []string
	cmd  *exec.Cmd
}

// Start starts etcd, with further arguments, and ends it with the test.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return Cluster(t, 1, args...)[0]
}

// Cluster starts several members of one etcd.
func Cluster(t testing.TB, n int, args ...string) []*Server {
	t.Helper()
	testenv.Need(t, "etcd")
	scheme := "http"
	if strings.Contains(strings.Join(args, " "), "--cert-file") {
		scheme = "https"
	}
	var members []*Server
	var peers, cluster []string
	for i := range n {
		peers = append(peers, "http://"+FreePort(t))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	var starting sync.WaitGroup
	for i := range n {
		s := &Server{URL: scheme + "://" + FreePort(t)}
		s.args = append([]string{
			fmt.Sprint("--name=m", i), "--data-dir=" + filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls=" + s.URL, "--advertise-client-urls=" + s.URL,
			"--listen-peer-urls=" + peers[i], "--initial-advertise-peer-urls=" + peers[i], "--initial-cluster=" + strings.Join(cluster, ","),
			"--log-level=error", "--unsafe-no-fsync",
		}, args...)
		t.Cleanup(s.Kill)
		members = append(members, s)
		starting.Go(func() { s.Start(t) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return members
}

// Start starts it again, with what was in it.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command("etcd", s.args...)
	s.cmd.Stderr = t.Output()
	if err := s.cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	host := strings.TrimPrefix(strings.TrimPrefix(s.URL, "https://"), "http://")
	for range 400 {
		if conn, err := net.DialTimeout("tcp", host, time.Second); err == nil {
			conn.Close()
			if !strings.HasPrefix(s.URL, "http:") || healthy(s.URL) {
				return
			}
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Error("etcd does not answer")
}

func healthy(url string) bool {
	resp, err := http.Get(url + "/health")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Kill is kill -9.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// FreePort is an address on loopback that nobody listens on.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
