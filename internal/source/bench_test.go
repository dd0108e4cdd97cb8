package source

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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
	size           herdSize
	nodes          []Node
	probes         map[string]*told
	first, second  [][]byte
	stable, canary []netip.AddrPort
}

type herdSize struct{ nodes, workloads, ours int }

func (s herdSize) String() string {
	return fmt.Sprintf("%d nodes of %d workloads, %d of the service", s.nodes, s.workloads, s.ours)
}

// newHerd places pods.
func newHerd(size herdSize) *herd {
	h := &herd{size: size}
	for i := range size.nodes {
		name := fmt.Sprintf("node-%04d", i)
		h.nodes = append(h.nodes, Node{name, name})
		for j := range size.ours {
			if (i+j)%10 == 0 {
				h.canary = append(h.canary, h.addr(i, j))
			} else {
				h.stable = append(h.stable, h.addr(i, j))
			}
		}
	}
	return h
}

func (h *herd) addr(node, workload int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(node >> 8), byte(node), byte(workload)}), 8080)
}

// count prepares two readings of every node, a second and a hundred requests of
// every workload apart.
func (h *herd) count() *herd {
	h.probes = map[string]*told{}
	r := rand.New(rand.NewPCG(1, 1))
	var hours, second [64]probe.Counts // workloads differ, though not all from all
	for i := range hours {
		hours[i], second[i] = served(r, 200_000), served(r, 100)
	}
	for i, n := range h.nodes {
		s := wire.Status{
			Snapshot: probe.Snapshot{At: time.Now().Add(-time.Second), Workloads: map[probe.Workload]probe.Counts{}},
			Node:     n.Name, Start: wire.Start{Boot: "boot", Loaded: time.Unix(0, int64(i+1))},
		}
		for j := range h.size.workloads {
			s.Workloads[probe.Workload{Cgroup: uint64(1000 + j), Addr: h.addr(i, j)}] = hours[r.IntN(len(hours))]
		}
		h.first = append(h.first, wire.Encode(nil, &s))
		s.At = s.At.Add(time.Second)
		for w, c := range s.Workloads {
			c.Add(&second[r.IntN(len(second))])
			s.Workloads[w] = c
		}
		h.second = append(h.second, wire.Encode(nil, &s))
		h.probes[n.Name] = &told{h.first[i]}
	}
	return h
}

// served is n requests with latencies around 5 ms, and some errors: of 200 000
// about 250 buckets are in use, as on a busy node.
func served(r *rand.Rand, n uint64) (c probe.Counts) {
	c.Begun, c.Requests, c.Classes = n, n, [6]uint64{2: n - n/1000, 5: n / 1000}
	for range min(n, 4000) {
		took := time.Duration(5e6 * math.Exp(r.NormFloat64()/1.4))
		c.Latency.Add(histogram.Index(took), max(1, n/4000))
		c.Complete.Add(histogram.Index(took+time.Millisecond/4), max(1, n/4000))
	}
	return c
}

func (h *herd) Nodes(context.Context) ([]Node, error) { return h.nodes, nil }

func (h *herd) Addresses(context.Context) (stable, canary []netip.AddrPort, err error) {
	return h.stable, h.canary, nil
}

// BenchmarkObserve is one block of a large fleet: what a gate computes in a
// second, without asking.
func BenchmarkObserve(b *testing.B) {
	sizes := []herdSize{{1000, 50, 50}, {1000, 50, 5}, {10, 50, 5}}
	if n, err := strconv.Atoi(os.Getenv("SLUICE_BENCH_NODES")); err == nil {
		sizes = []herdSize{{n, 50, 5}}
	}
	for _, size := range sizes {
		b.Run(size.String(), func(b *testing.B) {
			h := newHerd(size).count()
			h.bench(b, func(target string) (prober, error) { return h.probes[target], nil }, func() {
				for i, n := range h.nodes {
					h.probes[n.Name].now = h.second[i]
				}
			})
		})
	}
}

// BenchmarkObserveOverSockets is the same with asking: every node is a socket of
// another process. Its processor time is not counted, that of the connections at
// this end is.
func BenchmarkObserveOverSockets(b *testing.B) {
	h, dir := newHerd(herdSize{1000, 50, 5}), b.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), herdEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	for i := range h.nodes {
		h.nodes[i].Target = "unix:" + filepath.Join(dir, h.nodes[i].Name)
	}
	h.bench(b, nil, func() {})
}

// herdEnv makes the test binary the probes of a fleet, as sockets in that folder.
// Each tells its first reading once, and then the second.
const herdEnv = "SLUICE_TEST_HERD"

func serveHerd(dir string) {
	h := newHerd(herdSize{1000, 50, 5}).count()
	for i, n := range h.nodes {
		l, err := net.Listen("unix", filepath.Join(dir, n.Name))
		if err != nil {
			panic(err)
		}
		next := h.first[i]
		go func() {
			panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", wire.MediaType)
				_, _ = w.Write(next)
				next = h.second[i]
			})))
		}()
	}
	fmt.Println("ready")
	select {}
}

// bench measures the second block, again and again.
func (h *herd) bench(b *testing.B, dial func(string) (prober, error), later func()) {
	s, err := newNodes(b.Context(), h, NodesConfig{Block: time.Second}, dial)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	later()
	first, bytes := map[string][]byte{}, 0
	for name, n := range s.nodes {
		first[name] = n.prev
		bytes += len(n.prev)
	}
	b.ReportAllocs()
	begin := processorTime()
	for b.Loop() {
		for name, n := range s.nodes {
			n.prev, n.at = first[name], time.Time{}
		}
		s.end = time.Now().Add(-s.cfg.Block)
		obs, err := s.Observe(b.Context())
		if err != nil || obs.Fault != "" {
			b.Fatal(obs.Fault, err)
		}
		if got, want := obs.Baseline.Requests+obs.Canary.Requests, uint64(100*h.size.nodes*h.size.ours); got != want {
			b.Fatalf("%d requests, want %d", got, want)
		}
	}
	b.ReportMetric((processorTime()-begin).Seconds()*1000/float64(b.N), "cpu-ms/op")
	b.ReportMetric(float64(bytes)/1e6, "MB")
	b.ReportMetric(float64(peak())/1e6, "peak-MB")
}

// peak is the most memory that this process has had, in bytes.
func peak() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // the arguments are right
	return u.Maxrss * 1024
}

func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // the arguments are right
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
