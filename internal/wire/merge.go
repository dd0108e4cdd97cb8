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
	s, err := m.read(prev, now)
	if err != nil {
		return Status{}, err
	}
	m.more.reset()
	var keys []K
	for i := range m.now { // nothing is added before all is read
		w := &m.now[i]
		k, ok := key(s.Node, w.key)
		if !ok {
			continue
		}
		if err := m.more.append(w, m.before(w.key)); err != nil {
			return Status{}, err.of(i, s.Node, w.key)
		}
		keys = append(keys, k)
	}
	for i, k := range keys {
		sum := into[k]
		if sum == nil {
			sum = new(probe.Counts)
			into[k] = sum
		}
		m.more.addTo(sum, i)
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
	more      increase
	rest      []workload // of prev, still to be looked at
}

var mergers = sync.Pool{New: func() any { return new(merger) }}

// read reads both readings. It returns what now says, less what prev counted.
func (m *merger) read(prev, now []byte) (s Status, err error) {
	if s, m.now, err = read(now, m.now[:0]); err != nil {
		return s, err
	}
	m.rest = nil
	if prev == nil {
		return s, nil
	}
	var before Status
	if before, m.prev, err = read(prev, m.prev[:0]); err != nil {
		return s, fmt.Errorf("the reading before: %w", err)
	}
	m.rest = m.prev
	if err := sameRun(&before, &s); err != nil {
		return s, err
	}
	if !subTotals(&s, &before) {
		return s, &ResetError{s.Node, "a counter of the whole node shrank"}
	}
	return s, nil
}

// before is a workload in the earlier reading, an empty one if it was not
// there. It is asked for workloads in ascending order.
func (m *merger) before(w probe.Workload) *workload {
	for len(m.rest) > 0 && order(m.rest[0].key, w) < 0 {
		m.rest = m.rest[1:]
	}
	if len(m.rest) > 0 && m.rest[0].key == w {
		return &m.rest[0]
	}
	return &absent
}
