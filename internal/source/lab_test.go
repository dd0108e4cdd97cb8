package source

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/wire"
)

// machine is a node whose probe says what a test wants it to say: late, foreign
// and wrong answers cannot be had from a kernel.
type machine struct {
	mu     sync.Mutex
	status wire.Status
	still  bool                           // the reading's time stands
	answer func(http.ResponseWriter) bool // answers instead, if it returns true
	url    string
}

var object = bpf.DigestOf([]byte("object"))

func newMachine(t *testing.T, name string) *machine {
	m := &machine{status: wire.Status{
		Node: name, Start: wire.Start{Boot: name, Loaded: time.Now().Add(-time.Hour)}, Loaded: bpf.Loaded{Digest: object, Maps: []bpf.LoadedMap{{Name: "slots"}, {Name: "workloads", MaxEntries: 256}}},
		Snapshot: probe.Snapshot{At: time.Now(), Workloads: map[probe.Workload]probe.Counts{}},
	}}
	server := httptest.NewServer(m)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

func (m *machine) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.answer != nil && m.answer(w) {
		return
	}
	if !m.still {
		m.status.At = time.Now()
	}
	w.Header().Set("Content-Type", wire.MediaType)
	_, _ = w.Write(wire.Encode(nil, &m.status))
}

// change changes what the machine says.
func (m *machine) change(f func(s *wire.Status)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(&m.status)
}

// serve lets a pod answer requests, ok of them well.
func (m *machine) serve(addr string, ok, failed uint64) { m.serveIn(1, addr, ok, failed) }

func (m *machine) serveIn(group uint64, addr string, ok, failed uint64) {
	m.change(func(s *wire.Status) {
		w := probe.Workload{Cgroup: group, Addr: netip.MustParseAddrPort(addr)}
		c := s.Workloads[w]
		more := counts(ok, failed, 0)
		c.Add(&more)
		if c.First.IsZero() && ok+failed > 0 {
			c.First = time.Now()
		}
		if c.FirstError.IsZero() && failed > 0 {
			c.FirstError = time.Now()
		}
		s.Workloads[w] = c
	})
}

// replace lets the machine answer something else; nil: what it should.
func (m *machine) replace(f func(http.ResponseWriter) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.answer = f
}

// broken is an answer of a probe that cannot read its counters.
func broken(w http.ResponseWriter) bool {
	wire.WriteError(w, http.StatusServiceUnavailable, errors.New("no snapshot yet"))
	return true
}

// cluster is a Fleet of machines.
type cluster struct {
	mu             sync.Mutex
	machines       map[string]*machine
	nodes          []Node
	stable, canary []netip.AddrPort
	err            error
	back           string // where a machine was
}

// Addresses of pods in tests.
const (
	podA, podB, podC, podD = "10.0.0.1:8080", "10.0.1.1:8080", "10.0.1.2:8080", "10.0.2.1:8080"
)

// newCluster has the nodes a and b; on a is a pod of the stable version, on b
// another one and the canary's.
func newCluster(t *testing.T) *cluster {
	c := &cluster{machines: map[string]*machine{}}
	c.join(newMachine(t, "a"))
	c.join(newMachine(t, "b"))
	c.pods([]string{podA, podB}, []string{podC})
	return c
}

func (c *cluster) join(m *machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machines[m.status.Node] = m
	c.nodes = append(c.nodes, Node{m.status.Node, m.url})
}

func (c *cluster) leave(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, n := range c.nodes {
		if n.Name == name {
			c.nodes = append(c.nodes[:i:i], c.nodes[i+1:]...)
			return
		}
	}
}

func (c *cluster) pods(stable, canary []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stable, c.canary = addresses(stable), addresses(canary)
}

func (c *cluster) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func addresses(list []string) (all []netip.AddrPort) {
	for _, a := range list {
		all = append(all, netip.MustParseAddrPort(a))
	}
	return all
}

func (c *cluster) Nodes(context.Context) ([]Node, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes, c.err
}

func (c *cluster) Addresses(context.Context) (stable, canary []netip.AddrPort, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stable, c.canary, c.err
}

// How long a test waits for what has to come, on however busy a machine, and for
// what will not.
const patience, short = time.Minute, time.Second

// watch starts to measure a cluster. It is patient: a test that looks at what is
// said of a node that is late sets Grace to short.
func watch(t *testing.T, c *cluster) *Nodes {
	t.Helper()
	s, err := NewNodes(t.Context(), c, NodesConfig{Block: 20 * time.Millisecond, Grace: patience, Object: object})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// observe is the next block.
func observe(t *testing.T, s *Nodes) canary.Observation {
	t.Helper()
	obs, err := s.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return obs
}

// block is the next block without a fault: requests and errors of both versions.
func block(t *testing.T, s *Nodes) [4]uint64 {
	t.Helper()
	obs := observe(t, s)
	if obs.Fault != "" || obs.Mismatch {
		t.Errorf("a fault: %s", obs.Fault)
	}
	return numbers(obs)
}

func numbers(obs canary.Observation) [4]uint64 {
	return [4]uint64{obs.Baseline.Requests, obs.Baseline.Errors, obs.Canary.Requests, obs.Canary.Errors}
}
