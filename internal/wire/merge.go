package wire

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// Merge adds what a node counted between two encoded readings to the sums that
// key names; a nil prev means since the probe's start. Workloads for which key
// returns false are left out. It returns what [Delta] returns, but without
// workloads: whether the node can be trusted.
//
// An error leaves the sums as they were: a *FormatError for bytes that are no
// Status, a *ResetError when the readings are not of the same counters.
//
// It is made for a thousand nodes a second: histograms stay sparse until they
// are added.
func Merge[K comparable](into map[K]*probe.Counts, prev, now []byte, key func(node string, w probe.Workload) (K, bool)) (Status, error) {
	m := mergers.Get().(*merger)
	defer mergers.Put(m)
	s, err := m.between(prev, now)
	if err != nil {
		return Status{}, err
	}
	for i := range m.now {
		w := &m.now[i]
		k, ok := key(s.Node, w.key)
		if !ok {
			continue
		}
		sum := into[k]
		if sum == nil {
			sum = new(probe.Counts)
			into[k] = sum
		}
		w.addTo(sum)
		add(&sum.Latency, w.latency)
		add(&sum.Complete, w.complete)
	}
	return s, nil
}

// ByAddress is a key for Merge: the local address and port, on whatever node;
// outgoing connections are left out.
func ByAddress(_ string, w probe.Workload) (netip.AddrPort, bool) { return w.Addr, !w.Outgoing() }

// ByCgroup is a key for Merge: the control group, whose ids mean something on
// one node only; outgoing connections are left out.
func ByCgroup(node string, w probe.Workload) (NodeCgroup, bool) {
	return NodeCgroup{node, w.Cgroup}, !w.Outgoing()
}

// NodeCgroup is a control group of a node.
type NodeCgroup struct {
	Node   string
	Cgroup uint64
}

// merger is the memory that one Merge needs, for the next one to use again.
type merger struct {
	prev, now []workload
	next      workload
}

var mergers = sync.Pool{New: func() any { return new(merger) }}

// between reads both readings and leaves the difference in m.now.
func (m *merger) between(prev, now []byte) (Status, error) {
	m.prev, m.now = m.prev[:0], m.now[:0]
	s, err := read(now, &m.next, func() { m.now = keep(m.now, &m.next) })
	if err != nil || prev == nil {
		return s, err
	}
	before, err := read(prev, &m.next, func() { m.prev = keep(m.prev, &m.next) })
	if err != nil {
		return s, fmt.Errorf("the reading before: %w", err)
	}
	if err := sameRun(&before, &s); err != nil {
		return s, err
	}
	if err := m.sub(s.Node); err != nil {
		return s, err
	}
	if !subTotals(&s, &before) {
		return s, &ResetError{s.Node, "a counter of the whole node shrank"}
	}
	return s, nil
}

// keep appends a workload, which gets the buffers of the one whose place it
// takes.
func keep(list []workload, w *workload) []workload {
	if len(list) < cap(list) {
		list = list[:len(list)+1]
	} else {
		list = append(list, workload{})
	}
	last := &list[len(list)-1]
	*last, *w = *w, *last
	return list
}

// sub takes the workloads prev away from now. Both are in ascending order.
func (m *merger) sub(node string) error {
	prev := m.prev
	for i := range m.now {
		w := &m.now[i]
		for len(prev) > 0 && order(prev[0].key, w.key) < 0 {
			prev = prev[1:]
		}
		if len(prev) == 0 || prev[0].key != w.key {
			continue
		}
		if !w.sub(&prev[0]) {
			return shrank(node, w.key)
		}
	}
	return nil
}

// sub takes an earlier reading of the same workload away.
func (w *workload) sub(prev *workload) bool {
	var latency, complete bool
	w.latency, latency = subBuckets(w.latency, prev.latency)
	w.complete, complete = subBuckets(w.complete, prev.complete)
	return latency && complete && w.tally.sub(&prev.tally)
}
