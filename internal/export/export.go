// Package export gives what a probe has counted to Prometheus and to
// OpenTelemetry.
//
// Both read the latest wire.Status when they need it and keep nothing of their
// own but which workloads have series: at most Options.Workloads, all others
// are summed up in one series called overflow. A workload that has once been in
// that sum stays in it, and what it counted stays there when it is gone, because
// a counter that shrinks would be taken for a restart.
//
// Histograms are given twice. The buckets are those of Prometheus native
// histograms of schema 5 and of OpenTelemetry exponential histograms of scale 5,
// so those forms lose nothing. For everyone else there is a classic histogram
// with the whole octaves as bounds, whose counts are exact, too. It has a name
// of its own, because a Prometheus server that takes native histograms drops the
// classic series of a metric that has both.
package export

import (
	"cmp"
	"slices"
	"strconv"
	"sync"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// Options of both exports; the zero value works.
type Options struct {
	Workloads int // that get series of their own; 0: 200
}

// Latest returns the last reading of a probe, nil before the first one. Nobody
// changes it afterwards.
type Latest func() *wire.Status

// series is what one workload has counted, or several together.
type series struct {
	workload  probe.Workload // if it is one
	overflow  bool
	outgoing  bool
	counts    *probe.Counts
	exemplars []probe.Exemplar // those that tell a trace
}

// Names of a series. The sum of outgoing connections has no address, as its
// workloads have none.
func (s *series) cgroup() string {
	if s.overflow {
		return "overflow"
	}
	return strconv.FormatUint(s.workload.Cgroup, 10)
}

func (s *series) address() string {
	if s.overflow {
		return "overflow"
	}
	return s.workload.Addr.Addr().String()
}

func (s *series) port() string {
	if s.overflow {
		return "overflow"
	}
	return strconv.Itoa(int(s.workload.Addr.Port()))
}

// bound decides which workloads have series of their own.
type bound struct {
	limit int

	mu       sync.Mutex
	start    wire.Start
	own      map[probe.Workload]bool // false: in the overflow
	owners   int                     // how many are true
	last     *wire.Status
	departed [2]probe.Counts // what those in the overflow counted that are gone; [1]: outgoing
}

func newBound(o Options) *bound {
	return &bound{limit: cmp.Or(o.Workloads, 200)}
}

// each calls yield for every series of a Status, in a stable order. It returns
// how many workloads are in the overflow. What a series points to is used again
// for the next one.
func (b *bound) each(s *wire.Status, yield func(*series)) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.admit(s)
	exemplars := map[probe.Workload][]probe.Exemplar{}
	for _, e := range s.Exemplars {
		if !e.Trace.IsZero() && !e.Aborted {
			exemplars[e.Workload] = append(exemplars[e.Workload], e)
		}
	}
	over := b.departed
	var c probe.Counts
	overflowed := 0
	for _, w := range b.order(s) {
		c = s.Workloads[w]
		if !b.own[w] {
			wire.Add(&over[kind(w)], &c)
			overflowed++
			continue
		}
		yield(&series{workload: w, outgoing: w.Outgoing(), counts: &c, exemplars: exemplars[w]})
	}
	for k := range over {
		if over[k] != (probe.Counts{}) {
			yield(&series{overflow: true, outgoing: k == 1, counts: &over[k]})
		}
	}
	return overflowed
}

func kind(w probe.Workload) int {
	if w.Outgoing() {
		return 1
	}
	return 0
}

// admit takes note of workloads that are new or gone. Of new ones the busiest
// come first.
func (b *bound) admit(s *wire.Status) {
	if s == b.last {
		return
	}
	if b.own == nil || s.Start.Boot != b.start.Boot || !s.Start.Loaded.Equal(b.start.Loaded) {
		b.own, b.owners, b.start, b.departed = map[probe.Workload]bool{}, 0, s.Start, [2]probe.Counts{}
		b.last = nil
	}
	for w, own := range b.own {
		if _, there := s.Workloads[w]; there {
			continue
		}
		if own {
			b.owners--
		} else {
			c := b.last.Workloads[w]
			wire.Add(&b.departed[kind(w)], &c)
		}
		delete(b.own, w)
	}
	var fresh []probe.Workload
	for w := range s.Workloads {
		if _, known := b.own[w]; !known {
			fresh = append(fresh, w)
		}
	}
	slices.SortFunc(fresh, func(x, y probe.Workload) int {
		return cmp.Or(cmp.Compare(s.Workloads[y].Requests, s.Workloads[x].Requests), compare(x, y))
	})
	for _, w := range fresh {
		b.own[w] = b.owners < b.limit
		if b.own[w] {
			b.owners++
		}
	}
	b.last = s
}

func (b *bound) order(s *wire.Status) []probe.Workload {
	list := make([]probe.Workload, 0, len(s.Workloads))
	for w := range s.Workloads {
		list = append(list, w)
	}
	slices.SortFunc(list, compare)
	return list
}

func compare(a, b probe.Workload) int {
	return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), a.Addr.Compare(b.Addr))
}
