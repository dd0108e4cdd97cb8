package wire

import (
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// scalars are the counters of probe.Counts that are one number each, in the
// order of their field numbers from workloadFirstSum on; the sum of the
// latencies follows them.
var scalars = [...]struct {
	name string
	of   func(*probe.Counts) *uint64
}{
	{"begun", func(c *probe.Counts) *uint64 { return &c.Begun }},
	{"requests", func(c *probe.Counts) *uint64 { return &c.Requests }},
	{"aborted", func(c *probe.Counts) *uint64 { return &c.Aborted }},
	{"truncated", func(c *probe.Counts) *uint64 { return &c.Truncated }},
	{"connections", func(c *probe.Counts) *uint64 { return &c.Connections }},
	{"resets", func(c *probe.Counts) *uint64 { return &c.Resets }},
	{"segments", func(c *probe.Counts) *uint64 { return &c.Segments }},
	{"retransmits", func(c *probe.Counts) *uint64 { return &c.Retransmits }},
	{"bytes_in", func(c *probe.Counts) *uint64 { return &c.BytesIn }},
	{"bytes_out", func(c *probe.Counts) *uint64 { return &c.BytesOut }},
}

const (
	latencySum = len(scalars)   // index of the latencies' sum in a tally
	sumFields  = latencySum + 1 // fields of a workload that are one growing number
	classes    = len(probe.Counts{}.Classes)
)

// tally is a probe.Counts without its histograms, as numbers that only grow, so
// that reading, writing, adding and subtracting are a loop each.
type tally struct {
	sums              [sumFields]uint64
	classes           [classes]uint64
	grpc              [probe.GRPCCodes]uint64
	first, firstError uint64 // nanoseconds since 1970; 0: none
}

func tallyOf(c *probe.Counts) (t tally) {
	for i, s := range scalars {
		t.sums[i] = *s.of(c)
	}
	t.sums[latencySum] = uint64(c.LatencySum)
	t.classes, t.grpc = c.Classes, c.GRPC
	t.first, t.firstError = nanos(c.First), nanos(c.FirstError)
	return t
}

// addTo adds the tally to counts; of times the earlier ones stay.
func (t *tally) addTo(c *probe.Counts) {
	for i, s := range scalars {
		*s.of(c) += t.sums[i]
	}
	c.LatencySum += time.Duration(t.sums[latencySum])
	for i, n := range t.classes {
		c.Classes[i] += n
	}
	for i, n := range t.grpc {
		c.GRPC[i] += n
	}
	c.First = earlier(c.First, instant(t.first))
	c.FirstError = earlier(c.FirstError, instant(t.firstError))
}

// Add adds counts to a sum; of First and FirstError the earlier ones stay.
func Add(sum, c *probe.Counts) {
	t := tallyOf(c)
	t.addTo(sum)
	sum.Latency.Merge(&c.Latency)
	sum.Complete.Merge(&c.Complete)
}

// sub takes away what an earlier reading had; it reports false when that was
// more. Times stay those of the later reading.
func (t *tally) sub(prev *tally) bool {
	for i, n := range prev.sums {
		if n > t.sums[i] {
			return false
		}
		t.sums[i] -= n
	}
	for i, n := range prev.classes {
		if n > t.classes[i] {
			return false
		}
		t.classes[i] -= n
	}
	for i, n := range prev.grpc {
		if n > t.grpc[i] {
			return false
		}
		t.grpc[i] -= n
	}
	return true
}

// nanos is a time on the wire, 0 for none.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

// instant is the time that nanos came from.
func instant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// earlier is the first of two times, of which the zero one is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
