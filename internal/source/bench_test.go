package source

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/wire"
)

// told is a probe that tells what it is given.
type told struct{ now []byte }

func (t *told) Encoded(context.Context) ([]byte, error) { return t.now, nil }
func (t *told) Close()                                  {}

// herd is a simulated fleet: so many nodes with so many workloads each, of which
// some are pods of a service, one in ten a canary.
type herd struct {
	nodes          []Node
	probes         map[string]*told
	first, second  [][]byte
	stable, canary []netip.AddrPort
}

func newHerd(nodes, workloads, ours int) *herd {
	h := &herd{probes: map[string]*told{}}
	began := time.Now().Add(-3 * time.Hour)
	for i := range nodes {
		r := rand.New(rand.NewPCG(uint64(i), 1))
		s := wire.Status{
			Snapshot: probe.Snapshot{At: time.Now().Add(-time.Second), Workloads: map[probe.Workload]probe.Counts{}},
			Node:     fmt.Sprintf("node-%04d", i), Start: wire.Start{Boot: "boot", Loaded: began.Add(time.Duration(i))},
		}
		for j := range workloads {
			addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), byte(j)}), 8080)
			s.Workloads[probe.Workload{Cgroup: uint64(1000 + j), Addr: addr}] = served(r, 200_000)
			switch {
			case j >= ours:
			case (i+j)%10 == 0:
				h.canary = append(h.canary, addr)
			default:
				h.stable = append(h.stable, addr)
			}
		}
		h.nodes = append(h.nodes, Node{s.Node, s.Node})
		h.first = append(h.first, wire.Encode(nil, &s))
		s.At = s.At.Add(time.Second)
		for w, c := range s.Workloads {
			more := served(r, 100)
			wire.Add(&c, &more)
			s.Workloads[w] = c
		}
		h.second = append(h.second, wire.Encode(nil, &s))
		h.probes[s.Node] = &told{h.first[i]}
	}
	return h
}

// served is n requests with lognormal latencies around 5 ms, and some errors: in
// 200 000 of them about 250 buckets are in use, as on a busy node.
func served(r *rand.Rand, n uint64) (c probe.Counts) {
	c.Begun, c.Requests, c.Classes = n, n, [6]uint64{2: n - n/1000, 5: n / 1000}
	for range min(n, 2000) {
		took := time.Duration(5e6 * (0.2 + r.ExpFloat64()))
		c.Latency.Add(histogram.Index(took), max(1, n/2000))
		c.Complete.Add(histogram.Index(took+time.Millisecond/4), max(1, n/2000))
	}
	return c
}

func (h *herd) Nodes(context.Context) ([]Node, error) { return h.nodes, nil }

func (h *herd) Addresses(context.Context) (stable, canary []netip.AddrPort, err error) {
	return h.stable, h.canary, nil
}

// BenchmarkObserve is one block of a large fleet: what a gate computes in a
// second, without what the kernel does for the connections.
func BenchmarkObserve(b *testing.B) {
	for _, size := range []struct{ nodes, workloads, ours int }{{1000, 50, 50}, {1000, 50, 5}, {100, 50, 5}} {
		b.Run(fmt.Sprintf("%d nodes of %d workloads, %d of the service", size.nodes, size.workloads, size.ours), func(b *testing.B) {
			h := newHerd(size.nodes, size.workloads, size.ours)
			s, err := newNodes(b.Context(), h, NodesConfig{Block: time.Second}, func(target string) (prober, error) { return h.probes[target], nil })
			if err != nil {
				b.Fatal(err)
			}
			bytes := 0
			for i, n := range h.nodes {
				h.probes[n.Name].now = h.second[i]
				bytes += len(h.second[i])
			}
			b.ReportAllocs()
			begin := processorTime()
			for b.Loop() {
				for i, n := range h.nodes { // the same second again
					s.nodes[n.Name].prev, s.nodes[n.Name].at = h.first[i], time.Time{}
				}
				s.end = time.Now().Add(-s.cfg.Block)
				obs, err := s.Observe(b.Context())
				if err != nil || obs.Fault != "" {
					b.Fatal(obs.Fault, err)
				}
				if want := uint64(100 * size.nodes * size.ours); obs.Baseline.Requests+obs.Canary.Requests != want {
					b.Fatalf("%d requests, want %d", obs.Baseline.Requests+obs.Canary.Requests, want)
				}
			}
			b.ReportMetric((processorTime()-begin).Seconds()*1000/float64(b.N), "cpu-ms/op")
			b.ReportMetric(float64(bytes)/1e6, "MB")
		})
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // the arguments are right
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
