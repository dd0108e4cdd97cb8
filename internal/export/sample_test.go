package export_test

import (
	"math/big"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/wire"
)

// began is when the sample probe began to count.
var began = time.Now().Add(-time.Minute).Truncate(time.Millisecond).UTC()

// web and client are the first two workloads of a sample.
var (
	web    = probe.Workload{Cgroup: 7, Addr: netip.MustParseAddrPort("10.0.0.1:8080")}
	client = probe.Workload{Cgroup: 7}
)

// sample is a Status with a workload in IPv4, its outgoing connections, and one
// in IPv6 that has had a request in every bucket.
func sample() *wire.Status {
	s := &wire.Status{
		Snapshot: probe.Snapshot{At: began.Add(time.Minute), Workloads: map[probe.Workload]probe.Counts{}},
		Node:     "node-1", Start: wire.Start{Boot: "b", Loaded: began},
		Loaded: bpf.Loaded{Digest: bpf.DigestOf([]byte("object"))},
		Swaps:  2, Cost: wire.Cost{Runs: 1000, Time: 1500 * time.Millisecond}, Budget: wire.Budget{Share: 0.003, Limit: 0.01},
	}
	s.Loss = probe.Loss{Requests: 1, Unmeasured: 2, Desynced: 3, Older: 4, Exemplars: 5}
	s.Workloads[web] = requests(1, 1000)
	s.Workloads[client] = probe.Counts{Begun: 12, Requests: 10, Aborted: 1, Latency: requests(2, 10).Latency, LatencySum: time.Second}
	every := probe.Counts{Begun: histogram.Buckets, Requests: histogram.Buckets, LatencySum: time.Hour}
	for i := range histogram.Buckets {
		every.Latency.Add(i, uint64(i+1))
	}
	every.GRPC[0], every.GRPC[14] = 5, 6
	s.Workloads[probe.Workload{Cgroup: 8, Addr: netip.MustParseAddrPort("[2001:db8::1]:443")}] = every
	s.Exemplars = []probe.Exemplar{
		{Workload: web, At: s.At, Took: 40 * time.Millisecond, Status: 200, GRPC: -1, Trace: probe.TraceID{1, 2, 3}},
		{Workload: web, At: s.At, Took: 40 * time.Millisecond, Status: 200, GRPC: -1}, // tells no trace
		{Workload: web, At: s.At, Aborted: true, GRPC: -1, Trace: probe.TraceID{9}},   // took nothing
	}
	return s
}

// requests are n of them, around 10 ms.
func requests(seed, n uint64) probe.Counts {
	r := rand.New(rand.NewPCG(seed, seed))
	c := probe.Counts{
		Begun: n + 5, Requests: n, Aborted: 2, Truncated: 1, Classes: [6]uint64{1, 0, n - 13, 3, 4, 5},
		Connections: 9, Resets: 8, Segments: 3 * n, Retransmits: 7, BytesIn: 100 * n, BytesOut: 900 * n,
	}
	for range n {
		took := time.Duration(1e7 * (0.5 + r.Float64()))
		c.Latency.Observe(took)
		c.Complete.Observe(2 * took)
		c.LatencySum += took
	}
	return c
}

// inBucket reports whether d is in (2^(k/32), 2^((k+1)/32)] seconds, by whole
// numbers alone: d³² against 10²⁸⁸ · 2^k.
func inBucket(d time.Duration, k int) bool {
	return compare(d, k) > 0 && compare(d, k+1) <= 0
}

// compare compares d with 2^(k/32) s.
func compare(d time.Duration, k int) int {
	left := new(big.Int).Exp(big.NewInt(int64(d)), big.NewInt(32), nil)
	right := new(big.Int).Exp(big.NewInt(10), big.NewInt(288), nil)
	if k >= 0 {
		right.Lsh(right, uint(k))
	} else {
		left.Lsh(left, uint(-k))
	}
	return left.Cmp(right)
}

// edges are the shortest and the longest duration of every bucket, but for the
// first and the last one, which are open.
func edges(t *testing.T) (durations []time.Duration) {
	t.Helper()
	for i := 1; i < histogram.Buckets-1; i++ {
		durations = append(durations, histogram.Edge(i-1)+1, histogram.Edge(i))
	}
	return durations
}
