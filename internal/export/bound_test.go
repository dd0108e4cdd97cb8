package export_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/wire"
)

// group is a workload with an address of its own.
func group(i int) probe.Workload {
	return probe.Workload{Cgroup: uint64(i), Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}), 80)}
}

// answered is the counter by which these tests tell series apart.
const answered = "http_server_requests_started_total"

// groups is a Status in which control group i has had 10·i requests.
func groups(list ...int) *wire.Status {
	s := &wire.Status{Start: wire.Start{Boot: "b", Loaded: began}}
	s.Workloads = map[probe.Workload]probe.Counts{}
	for _, i := range list {
		s.Workloads[group(i)] = probe.Counts{Begun: uint64(10 * i), Requests: uint64(10 * i)}
	}
	return s
}

func TestWorkloadsBeyondTheLimitAreSummedUp(t *testing.T) {
	var s *wire.Status
	r := registry(t, func() *wire.Status { return s }, export.Options{Workloads: 2})
	for _, step := range []struct {
		name string
		now  *wire.Status
		want map[string]float64 // by control group
		over float64
	}{
		{"as many as have room", groups(1, 2), map[string]float64{"1": 10, "2": 20}, 0},
		{"two more", groups(1, 2, 3, 4), map[string]float64{"1": 10, "2": 20, "overflow": 70}, 2},
		{"one with a series leaves, and nobody leaves the sum", groups(2, 3, 4), map[string]float64{"2": 20, "overflow": 70}, 2},
		{"a new one takes the room", groups(2, 3, 4, 5), map[string]float64{"2": 20, "5": 50, "overflow": 70}, 2},
		{"one of the sum leaves, and its requests stay", groups(2, 4, 5), map[string]float64{"2": 20, "5": 50, "overflow": 70}, 1},
		{"the last one of the sum leaves", groups(2, 5), map[string]float64{"2": 20, "5": 50, "overflow": 70}, 0},
		{"one of the sum comes back anew", groups(2, 5, 3), map[string]float64{"2": 20, "5": 50, "overflow": 100}, 1},
	} {
		s = step.now
		for range 2 { // a second scrape of the same reading changes nothing
			got := map[string]float64{}
			metrics := gather(t, r)
			for name, m := range metrics {
				if strings.HasPrefix(name, answered+"{") {
					got[m.GetLabel()[0].GetValue()] = value(m)
				}
			}
			if !maps.Equal(got, step.want) || value(metrics["sluice_probe_workloads_overflowed{}"]) != step.over {
				t.Errorf("%s: %v and %v in the overflow, want %v and %v", step.name, got, value(metrics["sluice_probe_workloads_overflowed{}"]), step.want, step.over)
			}
		}
	}
	s = groups(3)
	s.Start.Loaded = began.Add(time.Second)
	if got := gather(t, r); value(got[answered+"{cgroup_id=3,server_address=10.1.0.3,server_port=80}"]) != 30 {
		t.Error("after a new start of the probe the old division is still in force")
	}
}

func TestTheBusiestComeFirst(t *testing.T) {
	got := gather(t, registry(t, always(groups(1, 2, 3, 4, 5)), export.Options{Workloads: 1}))
	if value(got[answered+"{cgroup_id=5,server_address=10.1.0.5,server_port=80}"]) != 50 {
		t.Error("the busiest workload has no series of its own")
	}
	if value(got[answered+"{cgroup_id=overflow,server_address=overflow,server_port=overflow}"]) != 100 {
		t.Error("the others are not summed up")
	}
}

// TestSumsNeverShrink lets workloads come, go and count at random: whatever is
// in the overflow, a counter that shrinks would be taken for a restart, and
// nothing that was counted may be missing.
func TestSumsNeverShrink(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	s := groups()
	reg := registry(t, func() *wire.Status { return s }, export.Options{Workloads: 3})
	seen := map[string]float64{}
	for step := range 300 {
		next := groups()
		maps.Copy(next.Workloads, s.Workloads)
		for w, c := range next.Workloads {
			c.Begun += r.Uint64N(3)
			if next.Workloads[w] = c; r.IntN(10) == 0 {
				delete(next.Workloads, w)
			}
		}
		if w := group(step); r.IntN(2) == 0 {
			if w.Cgroup%3 == 0 {
				w.Addr = netip.AddrPort{}
			}
			next.Workloads[w] = probe.Counts{Begun: 1}
		}
		s = next
		for name, m := range gather(t, reg) {
			if m.Counter == nil {
				continue
			}
			if v := value(m); v < seen[name] {
				t.Fatalf("step %d: %s went from %v to %v", step, name, seen[name], v)
			} else {
				seen[name] = v
			}
		}
	}
	if seen["sluice_tcp_connects_started_total{cgroup_id=overflow}"] == 0 || len(seen) < 50 {
		t.Error("the test has not seen what it is for")
	}
}
