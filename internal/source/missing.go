package source

import (
	"fmt"
	"slices"

	"github.com/sluice-cd/sluice/internal/wire"
)

// lost is what a probe saw in a block and could not measure, whoever it was of.
type lost struct{ requests, desynced, older uint64 }

func lostBy(s *wire.Status) lost {
	return lost{s.Loss.Requests, s.Loss.Desynced, s.Loss.Older}
}

// all counts every connection as one request: at least that many were missed.
// Those that speak TLS or something unknown are not among them: on a node others
// may speak what they like.
func (l lost) all() uint64 { return l.requests + l.desynced + l.older }

// missing is what may be missing of the two versions in a block.
type missing struct {
	requests uint64    // of either of them
	of       [2]uint64 // of each, with connections
	where    string    // the most of it
	most     uint64
}

// add takes what was lost at a place where pods of these versions may be.
func (m *missing) add(where string, l lost, may [2]bool) {
	if l.all() == 0 || !may[stableArm] && !may[canaryArm] {
		return
	}
	m.requests += l.requests
	for a := range m.of {
		if may[a] {
			m.of[a] += l.all()
		}
	}
	if l.all() > m.most {
		m.where, m.most = where, l.all()
	}
}

// So much may be missing of what counts as evidence: one request in lostShare of
// both versions together, and, connections included, one in missedShare of either.
const (
	lostShare   = 200
	missedShare = 20
)

// held is why a block does not count in which so many requests of the versions
// were measured; empty if it does.
func (m *missing) held(measured [2]uint64) string {
	relevant := m.requests > (measured[stableArm]+measured[canaryArm])/lostShare
	for a, n := range m.of {
		relevant = relevant || n > measured[a]/(missedShare-1)
	}
	if !relevant {
		return ""
	}
	return fmt.Sprintf("%s lost %d requests or connections that may be of this service", m.where, m.most)
}

// doubts remembers which of the last blocks did not count, of those in which the
// canary answered: of others nothing is lost to anybody.
type doubts struct{ held []bool }

const (
	doubtBlocks = 60
	mostHeld    = 15 // of these
)

// add takes a block and returns what is wrong if there were too many.
func (d *doubts) add(why string, answered uint64) (fault string) {
	if answered == 0 {
		return ""
	}
	d.held = append(d.held, why != "")
	d.held = d.held[max(0, len(d.held)-doubtBlocks):]
	n := 0
	for _, held := range d.held {
		if held {
			n++
		}
	}
	if why == "" || n <= mostHeld {
		return ""
	}
	return fmt.Sprintf("%d of the last %d blocks count for nothing: %s", n, len(d.held), why)
}

// missing is what the nodes lost where pods of ours are. One that no probe has a
// workload of may be on any node that has no room for it; with room, the first
// request would have been measured.
func (r *round) missing() (m missing) {
	if !slices.ContainsFunc(r.nodes, func(n *node) bool { return n.lost.all() > 0 }) {
		return m
	}
	unmet := r.unmet()
	for _, n := range r.nodes {
		var may [2]bool
		if n.full() {
			may = unmet
		}
		for _, p := range n.met {
			may[p.arm] = true
		}
		m.add(n.place(), n.lost, may)
	}
	return m
}

// unmet says of which versions there are pods that no probe has a workload of.
func (r *round) unmet() (of [2]bool) {
	met := map[*pod]bool{}
	for _, n := range r.nodes {
		for _, p := range n.met {
			met[p] = true
		}
	}
	for _, p := range r.pods {
		of[p.arm] = of[p.arm] || !met[p]
	}
	return of
}

// spare slots may be taken all the same: by a probe's tests of itself, or since
// the reading.
const spare = 16

// full reports whether a new workload may have found no room, or nobody knows.
func (n *node) full() bool { return n.workloads+spare > n.room }

// place names the node, and says if that is its trouble.
func (n *node) place() string {
	if n.room > 0 && n.full() {
		return fmt.Sprintf("the probe of node %s, which can tell %d workloads apart (--workloads) and has %d,", n.name, n.room, n.workloads)
	}
	return "the probe of node " + n.name
}

// roomOf is how many workloads a probe can tell apart; 0: it does not say.
func roomOf(s *wire.Status) int {
	for _, m := range s.Loaded.Maps {
		if m.Name == "workloads" {
			return int(m.MaxEntries)
		}
	}
	return 0
}
