package wire_test

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestDeltaIsWhatWasCountedBetween(t *testing.T) {
	prev, now := sample(1, 9), sample(1, 9)
	later(&now)
	added := probe.Workload{Cgroup: 5000, Addr: sampleAddrs[1]}
	now.Workloads[added] = probe.Counts{Begun: 2, Requests: 1}
	gone := probe.Workload{Cgroup: 1, Addr: sampleAddrs[0]}
	prev.Workloads[gone] = probe.Counts{Begun: 2, Requests: 1}
	now.Loss.Requests, now.Swaps, now.Cost.Runs, now.Cost.Time = 7, 1, now.Cost.Runs+5, now.Cost.Time+time.Millisecond

	d, err := wire.Delta(&prev, &now)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := d.Workloads[gone]; ok || len(d.Workloads) != 10 || d.Workloads[added].Requests != 1 {
		t.Errorf("%d workloads, want the nine that were there and the new one", len(d.Workloads))
	}
	for w, c := range d.Workloads {
		if w == added {
			continue
		}
		if c.Requests != 100 || c.Begun != 100 || c.Classes[2] != 100 || c.Classes[5] != 0 || c.Latency.Count() != 100 || c.Complete.Count() != 100 {
			t.Errorf("%v: %d requests, %d timed; want 100", w, c.Requests, c.Latency.Count())
		}
		if c.LatencySum <= 0 || c.LatencySum > 10*time.Second || !c.First.Equal(start.Add(time.Second)) {
			t.Errorf("%v: sum %v, first %v", w, c.LatencySum, c.First)
		}
	}
	if d.Loss != (probe.Loss{Requests: 7}) || d.Swaps != 1 || d.Cost != (probe.Cost{Runs: 5, Time: time.Millisecond}) {
		t.Errorf("of the node: %v, %d swaps, %v", d.Loss, d.Swaps, d.Cost)
	}
	if _, err := wire.Delta(&now, &now); err != nil {
		t.Errorf("the same reading twice: %v", err)
	}
}

func TestReadingsOfDifferentCountersAreAReset(t *testing.T) {
	w := probe.Workload{Cgroup: 1000, Addr: netip.MustParseAddrPort("10.0.1.0:8080")}
	for name, tt := range map[string]struct {
		change func(prev, now *wire.Status)
		what   string
	}{
		"the machine was started anew": {func(_, now *wire.Status) { now.Start.Boot = "another" }, "machine was started anew"},
		"the probe was started anew":   {func(_, now *wire.Status) { now.Start.Loaded = start.Add(1) }, "probe was started anew"},
		"another node":                 {func(prev, _ *wire.Status) { prev.Node = "other" }, `of node "other"`},
		"the wrong order":              {func(prev, now *wire.Status) { now.At = prev.At.Add(-1) }, "later"},
		"a counter shrank":             {change(w, func(c *probe.Counts) { c.BytesIn++ }), "group 1000 at 10.0.1.0:8080"},
		"a class shrank":               {change(w, func(c *probe.Counts) { c.Classes[3]++ }), "shrank"},
		"a gRPC code shrank":           {change(w, func(c *probe.Counts) { c.GRPC[16]++ }), "shrank"},
		"the sum shrank":               {change(w, func(c *probe.Counts) { c.LatencySum++ }), "shrank"},
		"a bucket shrank":              {change(w, func(c *probe.Counts) { c.Latency.Add(400, 1) }), "shrank"},
		"a first bucket vanished":      {change(w, func(c *probe.Counts) { c.Complete.Add(0, 1) }), "shrank"},
		"a last bucket vanished":       {change(w, func(c *probe.Counts) { c.Latency.Add(833, 1) }), "shrank"},
		"loss shrank":                  {func(prev, _ *wire.Status) { prev.Loss.Exemplars = 1 }, "whole node"},
	} {
		prev, now := sample(1, 3), sample(1, 3)
		tt.change(&prev, &now)
		_, err := wire.Delta(&prev, &now)
		var reset *wire.ResetError
		if !errors.As(err, &reset) || reset.Node != "node-1" || !strings.Contains(err.Error(), tt.what) {
			t.Errorf("%s: %v, want a ResetError with %q", name, err, tt.what)
		}
		sums := map[uint64]*probe.Counts{}
		_, merged := wire.Merge(sums, wire.Encode(nil, &prev), wire.Encode(nil, &now), byGroup)
		if merged == nil || merged.Error() != err.Error() || len(sums) > 0 {
			t.Errorf("%s: Merge says %v and leaves %d sums, Delta says %v", name, merged, len(sums), err)
		}
		// Nothing of a merge that failed is left for the next one.
		if _, err := wire.Merge(sums, nil, wire.Encode(nil, &now), byGroup); err != nil || *sums[w.Cgroup] != now.Workloads[w] {
			t.Errorf("%s: the next merge is spoilt: %v", name, err)
		}
	}
}

// change changes a workload in the earlier reading.
func change(w probe.Workload, f func(*probe.Counts)) func(prev, _ *wire.Status) {
	return func(prev, _ *wire.Status) {
		c := prev.Workloads[w]
		f(&c)
		prev.Workloads[w] = c
	}
}

// add adds counts in the plainest way.
func add(sum *probe.Counts, c probe.Counts) {
	for _, pair := range []struct {
		into *uint64
		n    uint64
	}{
		{&sum.Begun, c.Begun},
		{&sum.Requests, c.Requests},
		{&sum.Aborted, c.Aborted},
		{&sum.Truncated, c.Truncated},
		{&sum.Connections, c.Connections},
		{&sum.Resets, c.Resets},
		{&sum.Segments, c.Segments},
		{&sum.Retransmits, c.Retransmits},
		{&sum.BytesIn, c.BytesIn},
		{&sum.BytesOut, c.BytesOut},
	} {
		*pair.into += pair.n
	}
	for i := range c.Classes {
		sum.Classes[i] += c.Classes[i]
	}
	for i := range c.GRPC {
		sum.GRPC[i] += c.GRPC[i]
	}
	sum.LatencySum += c.LatencySum
	sum.Latency.Merge(&c.Latency)
	sum.Complete.Merge(&c.Complete)
	for _, pair := range [][2]*time.Time{{&sum.First, &c.First}, {&sum.FirstError, &c.FirstError}} {
		if pair[0].IsZero() || (!pair[1].IsZero() && pair[1].Before(*pair[0])) {
			*pair[0] = *pair[1]
		}
	}
}

func TestAnEarlierReadingThatIsNone(t *testing.T) {
	now := workload(field(15, 1))
	for want, prev := range map[string][]byte{
		"the reading before: not a snapshot of a probe: ":       []byte("x"),
		"workloads[0].latency: in the reading before, a number": workload(field(15, 0x80)),
	} {
		_, err := wire.Merge(map[uint64]*probe.Counts{}, prev, now, byGroup)
		var format *wire.FormatError
		if !errors.As(err, &format) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want a FormatError with %q", err, want)
		}
	}
}

func TestMergeAddsWhatDecodeAndDeltaFind(t *testing.T) {
	got, gotSecond := map[uint16]*probe.Counts{}, map[uint16]*probe.Counts{}
	want, wantSecond := map[uint16]*probe.Counts{0: {}, 8080: {}}, map[uint16]*probe.Counts{0: {}, 8080: {}}
	port := func(_ string, w probe.Workload) (uint16, bool) { return w.Addr.Port(), true }
	for node := range 20 {
		prev, now := sample(node, 15), sample(node, 17)
		now.Workloads = maps.Clone(prev.Workloads)
		later(&now)
		now.Workloads[probe.Workload{Cgroup: 1}] = probe.Counts{Requests: 3, First: start} // the first
		now.Workloads[probe.Workload{Cgroup: 1 << 60}] = probe.Counts{Requests: 3}         // and the last are new
		delete(now.Workloads, probe.Workload{Cgroup: 1007})                                // one in the middle is gone
		b := wire.Encode(nil, &now)
		s, err := wire.Merge(got, nil, b, port)
		if err != nil {
			t.Fatal(err)
		}
		if now.Workloads, s.Workloads = nil, nil; node == 3 {
			same(t, now, s)
		}
		second, err := wire.Merge(gotSecond, wire.Encode(nil, &prev), b, port)
		if err != nil {
			t.Fatal(err)
		}
		full, err := wire.Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for w, c := range full.Workloads {
			add(want[w.Addr.Port()], c)
		}
		d, err := wire.Delta(&prev, &full)
		if err != nil {
			t.Fatal(err)
		}
		for w, c := range d.Workloads {
			add(wantSecond[w.Addr.Port()], c)
		}
		d.Workloads = nil
		same(t, d, second)
	}
	for _, port := range []uint16{0, 8080} {
		if *got[port] != *want[port] {
			t.Errorf("port %d: Merge finds %d requests, Decode %d", port, got[port].Requests, want[port].Requests)
		}
		if *gotSecond[port] != *wantSecond[port] {
			t.Errorf("port %d: Merge finds %d new requests, Delta %d", port, gotSecond[port].Requests, wantSecond[port].Requests)
		}
	}
}

func TestKeysOfAMerge(t *testing.T) {
	s := sample(1, 16)
	b := wire.Encode(nil, &s)
	byAddress, byCgroup, none := map[netip.AddrPort]*probe.Counts{}, map[wire.NodeCgroup]*probe.Counts{}, map[int]*probe.Counts{}
	for range 2 {
		for _, merge := range []func() error{
			func() error { _, err := wire.Merge(byAddress, nil, b, wire.ByAddress); return err },
			func() error { _, err := wire.Merge(byCgroup, nil, b, wire.ByCgroup); return err },
			func() error {
				_, err := wire.Merge(none, nil, b, func(string, probe.Workload) (int, bool) { return 0, false })
				return err
			},
		} {
			if err := merge(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(byAddress) != 14 || len(byCgroup) != 14 || len(none) != 0 {
		t.Errorf("%d addresses, %d control groups, %d of none; want 14, 14, 0", len(byAddress), len(byCgroup), len(none))
	}
	for w, c := range s.Workloads {
		if sum := byCgroup[wire.NodeCgroup{Node: "node-1", Cgroup: w.Cgroup}]; !w.Outgoing() && (sum == nil || sum.Requests != 2*c.Requests) {
			t.Errorf("%v is not there twice", w)
		}
	}
	if !slices.Contains(slices.Collect(maps.Keys(byAddress)), netip.MustParseAddrPort("10.0.1.0:8080")) {
		t.Error("an address is missing")
	}
}

func TestAnotherDaemonOverTheSameCountersIsNoReset(t *testing.T) {
	prev := sample(3, 2)
	prev.Swaps, prev.Mismatches, prev.Cost = 4, 2, wire.Cost{Runs: 1000, Time: time.Second}
	now := prev
	now.Swaps, now.Mismatches, now.Cost = 1, 0, wire.Cost{Runs: 10, Time: time.Millisecond}
	d, err := wire.Delta(&prev, &now)
	if err != nil {
		t.Fatal(err)
	}
	if d.Swaps != 1 || d.Mismatches != 0 || d.Cost != now.Cost {
		t.Errorf("%d swaps, %d mismatches, %v; want those of the new daemon", d.Swaps, d.Mismatches, d.Cost)
	}
}
