// Package source turns what an instrument has counted into the blocks that a
// rollout is judged by: [Probe] on this machine, [Nodes] on many.
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
}

// NewProbe starts the first block now.
func NewProbe(r Reader, stable, canary uint64, port uint16, block time.Duration) (*Probe, error) {
	s := &Probe{reader: r, stable: stable, canary: canary, port: port, block: block}
	var err error
	s.last, err = r.Snapshot()
	return s, err
}

// Observe waits until the block is over and returns what was counted in it. A
// probe that lost requests, or is not the one that was loaded, makes a block
// with a fault.
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
	obs.Fault = lostFault(now.Loss.Requests-s.last.Loss.Requests, obs.Baseline.Requests+obs.Canary.Requests)
	if err := s.reader.Check(); err != nil {
		var mismatch *bpf.MismatchError
		obs.Mismatch = errors.As(err, &mismatch)
		obs.Fault = err.Error()
	}
	s.last = now
	return obs, nil
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
