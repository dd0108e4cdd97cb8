package wire_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/wire"
)

// start is when the sample probe began to count.
var start = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// sample is what a busy node says: some hours of lognormal latencies around
// 5 ms, a few errors, one in eight workloads that only opens connections.
func sample(node, workloads int) wire.Status {
	r := rand.New(rand.NewPCG(uint64(node), uint64(workloads)))
	s := wire.Status{
		Snapshot: probe.Snapshot{At: start.Add(3 * time.Hour), Workloads: map[probe.Workload]probe.Counts{}, Loss: probe.Loss{Unmeasured: 12, Older: 3}},
		Node:     fmt.Sprintf("node-%d", node),
		Start:    wire.Start{Boot: "3f0f36a8-54dc-4e9a-9f51-a7a53c3b1a2b", Loaded: start},
		Loaded:   bpf.Loaded{Digest: bpf.DigestOf([]byte("object"))},
		Cost:     probe.Cost{Runs: 123456789, Time: 34 * time.Second},
		Budget:   wire.Budget{Share: 0.0031, Limit: 0.01},
	}
	for _, name := range []string{"connection", "egress", "ingress"} {
		s.Loaded.Programs = append(s.Loaded.Programs, bpf.LoadedProgram{
			Name: name, ID: r.Uint32N(1000), Tag: "5d2e26c1f1a3b0c7", XlatedDigest: bpf.DigestOf([]byte(name)), LinkID: r.Uint32N(1000), AttachedTo: "/sys/fs/cgroup",
		})
	}
	for i := range workloads {
		w := probe.Workload{Cgroup: uint64(1000 + i)}
		if i%8 != 7 {
			w.Addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), byte(i)}), 8080)
		}
		s.Workloads[w] = counts(r, 200_000)
	}
	for i := range 16 {
		w := probe.Workload{Cgroup: uint64(1000 + i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 8080)}
		e := probe.Exemplar{Workload: w, At: s.At.Add(-time.Second), Took: time.Duration(r.Int64N(1e9)), Status: 500 + i%2*3, GRPC: i%4 - 1, Aborted: i == 5}
		for j := range e.Trace {
			e.Trace[j] = byte(r.Uint32())
		}
		s.Exemplars = append(s.Exemplars, e)
	}
	return s
}

// counts are those of n requests.
func counts(r *rand.Rand, n uint64) probe.Counts {
	c := probe.Counts{
		Begun: n + 3, Requests: n, Aborted: 2, Truncated: 1, Classes: [6]uint64{0, 0, n - 150, 40, 100, 10},
		Connections: n / 100, Resets: 3, Segments: 3 * n, Retransmits: n / 1000, BytesIn: 600 * n, BytesOut: 9000 * n,
		First: start.Add(time.Second), FirstError: start.Add(time.Minute),
	}
	centre, width := math.Log(0.005)+r.NormFloat64()/2, 0.5+r.Float64()/4
	spread(&c.Latency, n, centre, width)
	spread(&c.Complete, n, centre+0.1, width)
	c.LatencySum = time.Duration(float64(n) * 1e9 * math.Exp(centre+width*width/2))
	return c
}

// spread fills a histogram with n lognormal durations.
func spread(h *histogram.Histogram, n uint64, centre, width float64) {
	below := func(i int) float64 { // of the durations, the share up to the end of bucket i
		return 0.5 * math.Erfc((centre-math.Log(histogram.EdgeSeconds(i)))/width/math.Sqrt2)
	}
	for i := 1; i < histogram.Buckets; i++ {
		if c := uint64(math.Round(float64(n) * (below(i) - below(i-1)))); c > 0 {
			h.Add(i, c)
		}
	}
}

func BenchmarkEncode100Workloads(b *testing.B) {
	s := sample(1, 100)
	buf := wire.Encode(nil, &s)
	b.ReportAllocs()
	begin := processorTime(b)
	for b.Loop() {
		buf = wire.Encode(buf[:0], &s)
	}
	b.ReportMetric(float64(len(buf)), "bytes")
	b.ReportMetric((processorTime(b)-begin).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

func BenchmarkDecode100Workloads(b *testing.B) {
	s := sample(1, 100)
	buf := wire.Encode(nil, &s)
	b.ReportAllocs()
	begin := processorTime(b)
	for b.Loop() {
		if _, err := wire.Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric((processorTime(b)-begin).Seconds()*1000/float64(b.N), "cpu-ms/op")
}

// BenchmarkMergeThousandNodes is what a reader of a thousand nodes with 50
// workloads each does in a second: decode and add up.
func BenchmarkMergeThousandNodes(b *testing.B) {
	var prev, now [1000][]byte
	bytes := 0
	for i := range now {
		s := sample(i, 50)
		prev[i] = wire.Encode(nil, &s)
		later(&s)
		now[i] = wire.Encode(nil, &s)
		bytes += len(now[i])
	}
	port := func(_ string, w probe.Workload) (uint16, bool) { return w.Addr.Port(), !w.Outgoing() }
	for name, with := range map[string]bool{"since the start": false, "since the second before": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			begin := processorTime(b)
			for b.Loop() {
				sums := map[uint16]*probe.Counts{}
				for i := range now {
					var before []byte
					if with {
						before = prev[i]
					}
					if _, err := wire.Merge(sums, before, now[i], port); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(bytes), "bytes")
			b.ReportMetric((processorTime(b)-begin).Seconds()*1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what this process has used: on a machine that does other
// things, too, it tells more than the clock.
func processorTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// later adds a second's requests to a Status.
func later(s *wire.Status) {
	r := rand.New(rand.NewPCG(7, 7))
	s.At = s.At.Add(time.Second)
	for w, c := range s.Workloads {
		for range 100 {
			took := time.Duration(5e6 * math.Exp(r.NormFloat64()/2))
			c.Latency.Observe(took)
			c.Complete.Observe(took + 100*time.Microsecond)
			c.LatencySum += took
		}
		c.Begun, c.Requests, c.Classes[2] = c.Begun+100, c.Requests+100, c.Classes[2]+100
		s.Workloads[w] = c
	}
}
