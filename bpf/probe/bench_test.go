package probe

import (
	"fmt"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// populated is a probe that knows some workloads, each with an hour's worth of
// latencies in two hundred buckets of every shard.
func populated(t testing.TB, workloads int) *Probe {
	t.Helper()
	testenv.NeedRoot(t)
	opts := Options{Workloads: workloads}
	p, err := Load(Object(), bpf.DigestOf(Object()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	shards := uint32(1) << opts.shardBits()
	for i := range workloads {
		var ticket uint32
		if err := p.coll.Maps["free_tickets"].LookupAndDelete(nil, &ticket); err != nil {
			t.Fatal(err)
		}
		var n probeCounts
		n.Ticket, n.Begun, n.Classes[2] = ticket, 200, 200
		for bucket := 300; bucket < 500; bucket++ {
			n.Latency[bucket], n.Complete[bucket] = 1, 1
		}
		for shard := range shards {
			if err := p.coll.Maps["slots"].Put((ticket&0xffff-1)*shards+shard, &n); err != nil {
				t.Fatal(err)
			}
		}
		k := probeWorkload{Cgroup: uint64(i), Port: 80}
		if err := p.coll.Maps["workloads"].Put(&k, ticket); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func TestASnapshotHasEveryWorkload(t *testing.T) {
	const workloads = 1000
	snap, err := populated(t, workloads).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if len(snap.Workloads) != workloads {
		t.Errorf("%d workloads, want %d", len(snap.Workloads), workloads)
	}
	for w, c := range snap.Workloads {
		if w.Addr != netip.MustParseAddrPort("[::]:80") || c.Requests == 0 || c.Latency.Count() != c.Requests || c.Complete.Count() != c.Requests {
			t.Fatalf("%v: %d requests, %d in the histogram", w, c.Requests, c.Latency.Count())
		}
	}
}

// BenchmarkSnapshotOfManyWorkloads reads the counters of busy workloads; the aim
// is at most 5 ms for 100. MiB/process is the resident memory of the process after
// a snapshot, MiB/more what it has more than before the probe was loaded.
func BenchmarkSnapshotOfManyWorkloads(b *testing.B) {
	for _, workloads := range []int{1, 100, 1000} {
		b.Run(fmt.Sprint(workloads), func(b *testing.B) {
			debug.FreeOSMemory()
			before := resident(b)
			p := populated(b, workloads)
			b.ReportAllocs()
			for b.Loop() {
				snap, err := p.Snapshot()
				if err != nil || len(snap.Workloads) != workloads {
					b.Fatalf("%d workloads: %v", len(snap.Workloads), err)
				}
			}
			after := resident(b)
			b.ReportMetric(after/(1<<20), "MiB/process")
			b.ReportMetric((after-before)/(1<<20), "MiB/more")
		})
	}
}

// resident is how many bytes of memory this process has.
func resident(t testing.TB) float64 {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		t.Fatal(err)
	}
	return float64(pages * os.Getpagesize())
}

func TestCountersMayBeReadBySeveralAtATime(t *testing.T) {
	a := newArena(t, Options{})
	addr := a.serve(t, mixed)
	c := dial(t, addr)
	stop := time.Now().Add(300 * time.Millisecond)
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for time.Now().Before(stop) {
				if _, err := a.p.Snapshot(); err != nil {
					t.Error(err)
				}
			}
		})
		readers.Go(func() {
			for time.Now().Before(stop) {
				if _, err := a.p.Exemplars(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for time.Now().Before(stop) {
		c.send(get("/?size=1"))
		c.answers(1, "GET")
	}
	readers.Wait()
}
