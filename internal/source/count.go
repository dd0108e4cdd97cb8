package source

import (
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/wire"
)

// sums is what both versions answered in a block.
type sums map[arm]*probe.Counts

func (s sums) arm(a arm) gate.Arm {
	c := s[a]
	if c == nil {
		return gate.Arm{}
	}
	return gate.Arm{Requests: c.Requests + c.Aborted, Errors: c.Failed(), Latency: c.Latency}
}

// count adds up what the nodes counted since their last readings. If one cannot
// be read the block has a fault and no numbers; if too much may be missing it has
// none either.
func (s *Nodes) count(r *round, obs *canary.Observation) {
	var (
		f    faults
		sum  = sums{}
		runs = map[wire.Start]string{}
		bad  bool
	)
	for _, n := range r.nodes {
		status, err := s.merge(sum, n, r)
		if err != nil {
			f.add(fmt.Sprintf("node %s: %v", n.name, err))
			bad = true
			if unread := (*wire.FormatError)(nil); errors.As(err, &unread) {
				n.now = n.prev
			}
			continue
		}
		f.check(n, &status, string(s.cfg.Object))
		n.at, n.room, n.lost = status.At, roomOf(&status), lost{}
		if n.prev != nil {
			n.lost = lostBy(&status)
		}
		if other, twice := runs[status.Start]; twice {
			f.add(fmt.Sprintf("nodes %s and %s are answered for by the same probe", other, n.name))
			bad = true
		}
		runs[status.Start] = n.name
	}
	if !bad {
		s.fill(sum, r, obs, &f)
	}
	obs.Fault, obs.Mismatch = f.String(), f.mismatch
}

// fill is count for a block of which all can be read.
func (s *Nodes) fill(sum sums, r *round, obs *canary.Observation, f *faults) {
	baseline, newcomer := sum.arm(stableArm), sum.arm(canaryArm)
	requests := [2]uint64{stableArm: baseline.Requests, canaryArm: newcomer.Requests}
	f.add(r.pods.unseen(requests, r.at))
	m := r.missing()
	obs.Held = m.held(requests)
	f.add(s.doubts.add(obs.Held, newcomer.Requests))
	if obs.Held == "" {
		obs.Baseline, obs.Canary = baseline, newcomer
		s.firsts(sum[canaryArm], obs)
	}
}

// merge adds what one node counted to the sums. With the first reading of a node
// there is nothing to compare: its counting begins.
func (s *Nodes) merge(sum sums, n *node, r *round) (wire.Status, error) {
	n.workloads = 0
	return wire.Merge(sum, n.prev, n.now, func(_ string, w probe.Workload) (arm, bool) {
		n.workloads++
		if w.Outgoing() {
			return 0, false
		}
		p := r.pods[w.Addr]
		if p != nil {
			p.known = true
			n.met = append(n.met, p)
		}
		if !r.same {
			p = s.pods.during(r.pods, w.Addr)
		}
		return p.version(), p != nil && n.prev != nil
	})
}

// firsts notes when the canary answered first, and failed first. Of workloads
// that are older than the rollout, which a machine with cgroup v1 has where an
// address is used again, the block in which it was noticed has to do.
func (s *Nodes) firsts(c *probe.Counts, obs *canary.Observation) {
	if c == nil {
		return
	}
	note := func(first *time.Time, told time.Time, n uint64) {
		switch {
		case n == 0 || !first.IsZero():
		case told.After(s.begin) && told.Before(obs.End):
			*first = told
		default:
			*first = obs.Start
		}
	}
	note(&s.first.FirstRequest, c.First, obs.Canary.Requests)
	note(&s.first.FirstError, c.FirstError, obs.Canary.Errors)
	obs.FirstRequest, obs.FirstError = s.first.FirstRequest, s.first.FirstError
}
