package image

import (
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// mortal is a registry that can die, and come back with what it had.
type mortal struct {
	t      *testing.T
	addr   string
	next   http.Handler
	server atomic.Pointer[http.Server]
	left   atomic.Int64 // writes before it dies
}

func (m *mortal) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch req.Method {
	case http.MethodPut, http.MethodPatch, http.MethodPost:
		if m.left.Add(-1) == 0 {
			_, _ = io.CopyN(io.Discard, req.Body, 100) // in the middle of it
			_ = m.server.Load().Close()
			return
		}
	}
	m.next.ServeHTTP(w, req)
}

func (m *mortal) start() {
	m.t.Helper()
	l, err := net.Listen("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.addr = l.Addr().String()
	server := &http.Server{Handler: m, ReadHeaderTimeout: time.Minute}
	m.server.Store(server)
	m.t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }()
}

// TestPushToARegistryThatDies: nobody listens any more from some write on. The push
// says so, has set no tag, and is completed by another one when the registry is
// back.
func TestPushToARegistryThatDies(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	l := open(t, t.TempDir())
	digest := mustPublish(t, l, config(t, certificate(t, 1), "v1.0.0"))
	for n := range testenv.Chaos(t, testenv.DeadRegistry, 4) {
		m := &mortal{t: t, addr: "127.0.0.1:0", next: registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(n%2 == 0))}
		m.left.Store(int64(1 + 5*n%23))
		m.start()
		ref := m.addr + "/shop:v1.0.0"
		_, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true, Timeout: 10 * time.Second})
		if err == nil || !strings.Contains(err.Error(), m.addr) {
			t.Errorf("the registry died at write %d, and the push says: %v", 1+5*n%23, err)
		}
		m.start()
		tag, err := name.NewTag(ref, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := remote.Get(tag); err == nil {
			t.Errorf("the tag is there though the registry died at write %d", 1+5*n%23)
		}
		if _, err := Push(t.Context(), l, "v1.0.0", ref, PushOptions{Insecure: true}); err != nil {
			t.Fatal(err)
		}
		compare(t, l, digest, ref)
	}
}
