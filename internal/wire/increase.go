package wire

import (
	"bytes"
	"fmt"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// increase is what workloads counted between two readings. Histograms stay
// sparse and lie one behind the other, so that nothing is allocated for one.
type increase struct {
	tallies []tally
	buckets []bucket
	ends    []int // of the two histograms of every workload in buckets
	before  reading
}

func (m *increase) reset() {
	m.tallies, m.buckets, m.ends = m.tallies[:0], m.buckets[:0], m.ends[:0]
}

// append notes what a workload has more than in an earlier reading.
func (m *increase) append(now, prev *workload) *wrong {
	for _, h := range [...]struct {
		name      string
		now, prev []byte
	}{{"latency", now.latency, prev.latency}, {"complete", now.complete, prev.complete}} {
		if what := m.histogram(h.now, h.prev); what != "" {
			return &wrong{h.name, what}
		}
		m.ends = append(m.ends, len(m.buckets))
	}
	m.tallies = append(m.tallies, now.tally)
	if !m.tallies[len(m.tallies)-1].sub(&prev.tally) {
		return &wrong{"", shrunk}
	}
	return nil
}

// histogram appends what a histogram has more than in an earlier reading. It
// returns what is wrong.
func (m *increase) histogram(now, prev []byte) (what string) {
	if len(prev) > 0 {
		if bytes.Equal(now, prev) {
			return ""
		}
		at := len(m.buckets)
		if m.buckets, what = readBuckets(m.buckets, prev, &m.before); what != "" {
			return "in the reading before, " + what
		}
		m.before.set(m.buckets[at:])
		m.buckets = m.buckets[:at]
	}
	if m.buckets, what = readBuckets(m.buckets, now, &m.before); what != "" {
		m.before.clear()
	}
	return what
}

// addTo adds the workload that was appended as number i.
func (m *increase) addTo(sum *probe.Counts, i int) {
	m.tallies[i].addTo(sum)
	begin := 0
	if i > 0 {
		begin = m.ends[2*i-1]
	}
	for _, b := range m.buckets[begin:m.ends[2*i]] {
		sum.Latency.Add(b.index, b.n)
	}
	for _, b := range m.buckets[m.ends[2*i]:m.ends[2*i+1]] {
		sum.Complete.Add(b.index, b.n)
	}
}

// wrong is what is wrong with a field of a workload.
type wrong struct{ field, what string }

// in is the error when it is the i-th workload.
func (w *wrong) in(i int) error {
	return &FormatError{Where: fmt.Sprintf("workloads[%d].%s", i, w.field), What: w.what}
}

// of is the error when there is an earlier reading, too.
func (w *wrong) of(i int, node string, key probe.Workload) error {
	if w.what == shrunk {
		return &ResetError{node, fmt.Sprintf("a counter of control group %d at %s shrank", key.Cgroup, key.Addr)}
	}
	return w.in(i)
}
