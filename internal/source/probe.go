// Package source turns what an instrument has counted into the blocks that a
// rollout is judged by: [Probe] on this machine, [Nodes] on many.
//
// # What is missing
//
// A probe says how much it saw and could not measure: requests without room,
// HTTP/2 connections that it lost track of, connections older than itself. It
// says so for all of its machine, so most of it may be somebody else's, and
// nobody can tell: what has no room has no name either. What is known is where
// the service is. So
//
//   - what a node lost without a pod of the service is not the service's. A pod that
//     no probe has met yet may be on any node that has no room for more workloads;
//   - anything else may all be of it, and of one version. Where that is one
//     request in 200 or less of both versions together, and one in 20 or less of
//     either, the block counts as it is;
//   - where it is more, the block counts for nothing. What is missing need not be
//     like what was measured (the slowest requests are the first that find no
//     room), so it may neither pass nor blame a release; and time of which nothing
//     is known is no time on a step. A neighbour that loses something now and then
//     costs a release a few blocks, and never the verdict;
//   - if that is so for more than 15 of 60 blocks in which the canary answered, what
//     is left is a choice of blocks, and the measurement is invalid.
//
// A probe that does not answer holds the block open, for as long as the grace,
// and is then a fault: nobody knows what its pods did. So does an API server that
// cannot say where pods are; but the probes count on, and nothing is known against
// anybody: that is a temporary error, and no verdict.
package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
)

// Reader is the part of a probe that a Probe source reads.
type Reader interface {
	Snapshot() (probe.Snapshot, error)
	Check() error // a *bpf.MismatchError if what is loaded is not what was signed
}

// Probe measures two versions by the eBPF probe: each is a control group, both
// answer on the same port.
type Probe struct {
	reader         Reader
	stable, canary uint64 // control group ids
	port           uint16
	block          time.Duration
	last           probe.Snapshot
	doubts         doubts
}

// NewProbe starts the first block now.
func NewProbe(r Reader, stable, canary uint64, port uint16, block time.Duration) (*Probe, error) {
	s := &Probe{reader: r, stable: stable, canary: canary, port: port, block: block}
	var err error
	s.last, err = r.Snapshot()
	return s, err
}

// Observe waits until the block is over and returns what was counted in it. A
// probe that missed requests makes a block that does not count; one that does so
// again and again, or is not the one that was loaded, a block with a fault.
func (s *Probe) Observe(ctx context.Context) (canary.Observation, error) {
	select {
	case <-ctx.Done():
		return canary.Observation{}, ctx.Err()
	case <-time.After(time.Until(s.last.At.Add(s.block))):
	}
	now, err := s.reader.Snapshot()
	if err != nil {
		return canary.Observation{}, err
	}
	obs := canary.Observation{Block: gate.Block{Start: s.last.At, End: now.At}}
	if obs.Baseline, _, err = s.arm(now, s.stable); err != nil {
		return obs, err
	}
	var sofar probe.Counts
	if obs.Canary, sofar, err = s.arm(now, s.canary); err != nil {
		return obs, err
	}
	obs.FirstRequest, obs.FirstError = sofar.First, sofar.FirstError
	s.hold(&obs, lostSince(now.Loss, s.last.Loss))
	if err := s.reader.Check(); err != nil {
		var mismatch *bpf.MismatchError
		obs.Mismatch = errors.As(err, &mismatch)
		obs.Fault = err.Error()
	}
	s.last = now
	return obs, nil
}

// hold takes its numbers from a block of which too much may be missing.
func (s *Probe) hold(obs *canary.Observation, l lost) {
	var m missing
	m.add("the probe", l, [2]bool{true, true})
	obs.Held = m.held([2]uint64{stableArm: obs.Baseline.Requests, canaryArm: obs.Canary.Requests})
	obs.Fault = s.doubts.add(obs.Held, obs.Canary.Requests)
	if obs.Held != "" {
		obs.Baseline, obs.Canary = gate.Arm{}, gate.Arm{}
	}
}

func lostSince(now, before probe.Loss) lost {
	return lost{now.Requests - before.Requests, now.Desynced - before.Desynced, now.Older - before.Older}
}

// arm is what one version answered since the last snapshot, and all it has
// answered so far.
func (s *Probe) arm(now probe.Snapshot, group uint64) (gate.Arm, probe.Counts, error) {
	total, before := Sum(now, group, s.port), Sum(s.last, group, s.port)
	arm := gate.Arm{
		Requests: total.Requests + total.Aborted - before.Requests - before.Aborted,
		Errors:   total.Failed() - before.Failed(),
	}
	var err error
	if arm.Latency, err = total.Latency.Sub(&before.Latency); err != nil {
		return arm, total, fmt.Errorf("reading the probe's histograms: %w", err)
	}
	return arm, total, nil
}

// Sum adds up what a control group answered on a port, whatever the local
// address.
func Sum(s probe.Snapshot, group uint64, port uint16) probe.Counts {
	var sum probe.Counts
	for w, c := range s.Workloads {
		if w.Cgroup != group || w.Addr.Port() != port {
			continue
		}
		sum.Add(&c)
	}
	return sum
}
