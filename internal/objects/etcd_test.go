package objects

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/etcd"
	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// node opens the history as a node sees it.
func node(t *testing.T, s *etcdtest.Server, name string) *History {
	t.Helper()
	h, err := Etcd(etcd.Config{Endpoints: []string{s.URL}, TLS: (*tls.Config)(nil)}, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// TestEtcdKilled lets nodes write while etcd is killed and comes back: what was
// acknowledged is there, once, and errors meanwhile say what is wrong.
func TestEtcdKilled(t *testing.T) {
	s := etcdtest.Start(t)
	first := node(t, s, "first")
	digest, err := first.Put(t.Context(), []byte("an object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	var acknowledged sync.Map
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for n := range 4 {
		h := node(t, s, fmt.Sprint("node-", n))
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				reason := fmt.Sprintf("%d-%d", n, i)
				err := h.MarkGood(t.Context(), digest, reason)
				var gone *etcd.UnavailableError
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
	for range testenv.Chaos(t, testenv.DeadEtcd, 1) {
		time.Sleep(300 * time.Millisecond)
		s.Kill()
		time.Sleep(300 * time.Millisecond)
		s.Start(t)
	}
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
		"nobody listens":     {"http://" + etcdtest.FreePort(t)},
		"nobody answers":     {"http://" + silent.Addr().String()},
		"neither one of two": {"http://" + silent.Addr().String(), "http://" + etcdtest.FreePort(t)},
	} {
		t.Run(name, func(t *testing.T) {
			h, err := Etcd(etcd.Config{Endpoints: endpoints, Timeout: time.Second}, "node")
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err = h.List(t.Context())
			var gone *etcd.UnavailableError
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
	members := etcdtest.Cluster(t, 3)
	h, err := Etcd(etcd.Config{Endpoints: []string{members[0].URL, members[1].URL, members[2].URL}, Timeout: 4 * time.Second}, "node")
	if err != nil {
		t.Fatal(err)
	}
	digest, err := h.Put(t.Context(), []byte("object"), nil)
	if err != nil {
		t.Fatal(err)
	}
	members[0].Kill()
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
	members[1].Kill()
	begin := time.Now()
	var gone *etcd.UnavailableError
	if err := h.MarkBad(t.Context(), digest, ""); !errors.As(err, &gone) || !gone.Temporary() {
		t.Errorf("without a quorum: %v, want an UnavailableError", err)
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v to say so, with a limit of 4 s", took)
	}
}

func TestEtcdOneEndpointOfTwo(t *testing.T) {
	s := etcdtest.Start(t)
	h, err := Etcd(etcd.Config{Endpoints: []string{"http://" + etcdtest.FreePort(t), s.URL}}, "node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Put(t.Context(), []byte("object"), nil); err != nil {
		t.Errorf("with one of two endpoints gone: %v", err)
	}
}

func TestEtcdTooLarge(t *testing.T) {
	s := etcdtest.Start(t)
	h := node(t, s, "node")
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
	s := etcdtest.Start(t)
	h := node(t, s, "node")
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
	c := h.backend.(*inEtcd)
	raw, err := c.get(t.Context(), digest)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	put := etcd.Operation{Put: &etcd.KeyValue{Key: []byte(objectPrefix + string(digest)), Value: raw}}
	if _, err := c.Txn(t.Context(), etcd.TxnRequest{Success: []etcd.Operation{put}}); err != nil {
		t.Fatal(err)
	}
}

// TestEtcdPages reads more events than one answer holds.
func TestEtcdPages(t *testing.T) {
	s := etcdtest.Start(t)
	h := node(t, s, "node")
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
