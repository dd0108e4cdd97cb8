package k8s

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/source"
	"github.com/sluice-cd/sluice/internal/wire"
)

// meter counts what goes to the API server, and the bytes of its answers.
type meter struct {
	http.RoundTripper
	requests, bytes atomic.Int64
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	m.requests.Add(1)
	resp, err := m.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = &metered{resp.Body, &m.bytes}
	}
	return resp, err
}

type metered struct {
	io.ReadCloser
	n *atomic.Int64
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.n.Add(int64(n))
	return n, err
}

// measured is a fleet as a hook has it; the probes of its nodes are the test's.
type measured struct {
	t      *testing.T
	target *Target
	cfg    *rest.Config
	urls   map[string]string
}

func (f *measured) Addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error) {
	return f.target.Addresses(ctx)
}

func (f *measured) Nodes(ctx context.Context) (list []source.Node, err error) {
	names, err := f.target.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := Probes(ctx, f.cfg, f.target.svc.Namespace, 9640); err != nil {
		return nil, err
	}
	for _, name := range names {
		if f.urls[name] == "" {
			f.urls[name] = daemon(f.t, name)
		}
		list = append(list, source.Node{Name: name, Target: f.urls[name]})
	}
	return list, nil
}

// daemon is a node's probe that has counted nothing.
func daemon(t *testing.T, node string) string {
	status := wire.Status{
		Node: node, Start: wire.Start{Boot: node, Loaded: time.Now().Add(-time.Hour)}, Loaded: bpf.Loaded{Digest: bpf.DigestOf([]byte("object"))},
		Snapshot: probe.Snapshot{Workloads: map[probe.Workload]probe.Counts{}},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := status
		now.At = time.Now()
		w.Header().Set("Content-Type", wire.MediaType)
		_, _ = w.Write(wire.Encode(nil, &now))
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestABlockIsOneRequest measures what the blocks of a rollout cost the API
// server, in a namespace with a hundred pods of probes.
func TestABlockIsOneRequest(t *testing.T) {
	w := newWorld(t, Service{Route: true})
	for i := range 100 {
		w.plane.Apply(t, w.svc.Namespace, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: probe-%[1]d, labels: {app.kubernetes.io/name: sluice-probe}}
spec: {terminationGracePeriodSeconds: 0, nodeName: node-%[2]d, containers: [{name: shop, image: "example.com/sluice-probe:1"}]}
`, i, i%2+1))
	}
	var m meter
	cfg := rest.CopyConfig(w.cfg)
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { m.RoundTripper = next; return &m })
	target, err := Open(t.Context(), cfg, w.svc)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	src, err := source.NewNodes(t.Context(), &measured{t, target, cfg, map[string]string{}}, source.NodesConfig{Block: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	const blocks = 30
	requests, bytes, least := m.requests.Load(), m.bytes.Load(), int64(1<<62)
	for range blocks {
		before := m.requests.Load()
		obs, err := src.Observe(t.Context())
		if err != nil || obs.Fault != "" {
			t.Fatalf("%s: %v", obs.Fault, err)
		}
		least = min(least, m.requests.Load()-before)
	}
	requests, bytes = m.requests.Load()-requests, m.bytes.Load()-bytes
	t.Logf("a block of 100 ms: %.1f requests, %.1f KB of answers", float64(requests)/blocks, float64(bytes)/blocks/1000)
	if least != 1 {
		t.Errorf("a block takes %d requests at least, want one", least)
	}
}
