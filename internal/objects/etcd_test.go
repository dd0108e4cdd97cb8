package objects

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// server is a real etcd of one node on loopback.
type server struct {
	URL  string
	args []string
	cmd  *exec.Cmd
}

// startEtcd starts etcd and ends it with the test.
func startEtcd(t *testing.T, args ...string) *server {
	t.Helper()
	return startCluster(t, 1, args...)[0]
}

// startCluster starts several members of one etcd.
func startCluster(t *testing.T, n int, args ...string) []*server {
	t.Helper()
	testenv.Need(t, "etcd")
	scheme := "http"
	if strings.Contains(strings.Join(args, " "), "--cert-file") {
		scheme = "https"
	}
	var members []*server
	var peers, cluster []string
	for i := range n {
		peers = append(peers, "http://"+freePort(t))
		cluster = append(cluster, fmt.Sprintf("m%d=%s", i, peers[i]))
	}
	var starting sync.WaitGroup
	for i := range n {
		s := &server{URL: scheme + "://" + freePort(t)}
		s.args = append([]string{
			fmt.Sprint("--name=m", i), "--data-dir=" + filepath.Join(t.TempDir(), "etcd"), "--listen-client-urls=" + s.URL, "--advertise-client-urls=" + s.URL,
			"--listen-peer-urls=" + peers[i], "--initial-advertise-peer-urls=" + peers[i], "--initial-cluster=" + strings.Join(cluster, ","),
			"--log-level=error", "--unsafe-no-fsync",
		}, args...)
		t.Cleanup(s.kill)
		members = append(members, s)
		starting.Go(func() { s.start(t) })
	}
	starting.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return members
}

func (s *server) start(t *testing.T) {
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

// kill is kill -9.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// node opens the history as a node sees it.
func (s *server) node(t *testing.T, name string) *History {
	t.Helper()
	h, err := Etcd(EtcdConfig{Endpoints: []string{s.URL}, TLS: (*tls.Config)(nil)}, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// TestEtcdKilled lets nodes write while etcd is killed and comes back: what was
// acknowledged is there, once, and errors meanwhile say what is wrong.
func TestEtcdKilled(t *testing.T) {
	s := startEtcd(t)
	first := s.node(t, "first")
	digest, err := first.Put(t.Context(), []byte("an object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged sync.Map
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 4 {
		h := s.node(t, fmt.Sprint("node-", n))
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				reason := fmt.Sprintf("%d-%d", n, i)
				err := h.MarkGood(t.Context(), digest, reason)
				var gone *UnavailableError
				switch {
				case err == nil:
					acknowledged.Store(reason, true)
				case !errors.As(err, &gone):
					t.Errorf("while etcd is killed: %v", err)
				default:
					time.Sleep(10 * time.Millisecond)
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	s.kill()
	time.Sleep(300 * time.Millisecond)
	s.start(t)
	time.Sleep(300 * time.Millisecond)
	close(stop)
	writers.Wait()

	list, err := first.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	seen := map[string]int{}
	for _, e := range list[0].Events {
		seen[e.Reason]++
	}
	count := 0
	acknowledged.Range(func(reason, _ any) bool {
		count++
		if seen[reason.(string)] != 1 {
			t.Errorf("the event %s, which etcd acknowledged, is there %d times", reason, seen[reason.(string)])
		}
		return true
	})
	if count < 10 {
		t.Errorf("only %d events were acknowledged", count)
	}
	t.Logf("%d events acknowledged, %d stored", count, len(list[0].Events)-1)
}

func TestEtcdGone(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, endpoints := range map[string][]string{
		"nobody listens":     {"http://" + freePort(t)},
		"nobody answers":     {"http://" + silent.Addr().String()},
		"neither one of two": {"http://" + silent.Addr().String(), "http://" + freePort(t)},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := Etcd(EtcdConfig{Endpoints: endpoints, Timeout: time.Second}, "node")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err = h.List(t.Context())
			var gone *UnavailableError
			if !errors.As(err, &gone) || !gone.Temporary() || gone.Hint() == "" || !strings.Contains(err.Error(), endpoints[0]) {
				t.Errorf("got %v, want an UnavailableError that names %s", err, endpoints[0])
			}
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("it took %v to say so, with a limit of 1 s", took)
			}
		})
	}
}

// TestEtcdCluster loses members one by one: with two of three everything goes on,
// with one of three nothing does, and that is said in time.
func TestEtcdCluster(t *testing.T) {
	members := startCluster(t, 3)
	h, err := Etcd(EtcdConfig{Endpoints: []string{members[0].URL, members[1].URL, members[2].URL}, Timeout: 4 * time.Second}, "node")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := h.Put(t.Context(), []byte("object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	members[0].kill()
	var marked error
	for range 5 { // an election may be due
		if marked = h.MarkGood(t.Context(), digest, ""); marked == nil {
			break
		}
	}
	if marked != nil {
		t.Fatal("with two of three:", marked)
	}
	if o, err := h.LastGood(t.Context(), ""); err != nil || o.Digest != digest {
		t.Error("with two of three:", err)
	}
	members[1].kill()
	begin := time.Now()
	var gone *UnavailableError
	if err := h.MarkBad(t.Context(), digest, ""); !errors.As(err, &gone) || !gone.Temporary() {
		t.Errorf("without a quorum: %v, want an UnavailableError", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v to say so, with a limit of 4 s", took)
	}
}

func TestEtcdOneEndpointOfTwo(t *testing.T) {
	s := startEtcd(t)
	h, err := Etcd(EtcdConfig{Endpoints: []string{"http://" + freePort(t), s.URL}}, "node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Put(t.Context(), []byte("object"), nil); err != nil {
		t.Errorf("with one of two endpoints gone: %v", err)
	}
}

func TestEtcdTooLarge(t *testing.T) {
	s := startEtcd(t)
	h := s.node(t, "node")
	if _, err := h.Put(t.Context(), make([]byte, 1<<20), nil); err != nil {
		t.Errorf("an object of 1 MiB: %v", err)
	}
	for _, size := range []int{1600 << 10, 8 << 20} {
		_, err := h.Put(t.Context(), make([]byte, size), nil)
		var large *TooLargeError
		if !errors.As(err, &large) || !strings.Contains(large.Hint(), "1.5 MiB") {
			t.Errorf("an object of %d bytes: got %v, want a TooLargeError", size, err)
		}
	}
	if list, err := h.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("afterwards there are %d objects (%v), want 1", len(list), err)
	}
}

// TestEtcdMends stores an object again whose bytes were changed.
func TestEtcdMends(t *testing.T) {
	s := startEtcd(t)
	h := s.node(t, "node")
	object := []byte("an object that will be changed")
	digest, err := h.Put(t.Context(), object, nil)
	if err != nil {
		t.Fatal(err)
	}
	changeInEtcd(t, h, digest)
	if _, err := h.Put(t.Context(), object, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Get(t.Context(), digest); err != nil {
		t.Errorf("after storing it again: %v", err)
	}
}

// changeInEtcd flips a bit of a stored object.
func changeInEtcd(t *testing.T, h *History, digest bpf.Digest) {
	t.Helper()
	c := h.backend.(*etcd)
	raw, err := c.get(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	ask := txnRequest{Success: []operation{{Put: &keyValue{Key: []byte(objectPrefix + string(digest)), Value: raw}}}}
	if err := c.call(t.Context(), "/v3/kv/txn", ask, new(txnAnswer)); err != nil {
		t.Fatal(err)
	}
}

// TestEtcdPages reads more events than one answer holds.
func TestEtcdPages(t *testing.T) {
	s := startEtcd(t)
	h := s.node(t, "node")
	digest, err := h.Put(t.Context(), []byte("object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	const want = eventPage*2 + 7
	for w := range 8 {
		writers.Go(func() {
			for i := w; i < want-1; i += 8 {
				e := h.event(digest, Loaded, fmt.Sprint(i), nil)
				if err := h.backend.add(context.Background(), e); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	events, err := h.backend.events(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range events {
		seen[e.Reason] = true
	}
	if len(events) != want || len(seen) != want {
		t.Errorf("%d events, %d different ones, want %d", len(events), len(seen), want)
	}
}

func TestEtcdPassword(t *testing.T) {
	s := startEtcd(t)
	admin := s.node(t, "admin").backend.(*etcd)
	for _, step := range []struct{ path, body string }{
		{"/v3/auth/user/add", `{"name":"root","password":"secret"}`},
		{"/v3/auth/role/add", `{"name":"root"}`},
		{"/v3/auth/user/grant", `{"user":"root","role":"root"}`},
		{"/v3/auth/enable", `{}`},
	} {
		if err := admin.send(t.Context(), s.URL+step.path, "", []byte(step.body), &struct{}{}); err != nil {
			t.Fatal(step.path, err)
		}
	}
	open := func(user, password string) *History {
		h, err := Etcd(EtcdConfig{Endpoints: []string{s.URL}, User: user, Password: password}, "node")
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	h := open("root", "secret")
	if _, err := h.Put(t.Context(), []byte("object"), nil); err != nil {
		t.Fatal("with the password:", err)
	}
	h.backend.(*etcd).session.token = "of.yesterday"
	if _, err := h.List(t.Context()); err != nil {
		t.Error("with a token that is no longer known:", err)
	}
	for name, h := range map[string]*History{"no password": s.node(t, "node"), "a wrong password": open("root", "wrong")} {
		var gone *UnavailableError
		if _, err := h.List(t.Context()); err == nil || errors.As(err, &gone) {
			t.Errorf("with %s: got %v, want a refusal", name, err)
		}
	}
}
