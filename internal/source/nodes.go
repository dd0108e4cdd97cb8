package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/wire"
)

// Node is a machine with a sluice-probe.
type Node struct {
	Name   string
	Target string // of its probe, as wire.Dial takes it; "": it has none with an address
}

// Fleet knows where the two versions run.
type Fleet interface {
	// Nodes lists the machines on which pods of either version are, or are about
	// to be.
	Nodes(ctx context.Context) ([]Node, error)
	// Addresses lists where the pods of both versions answer, those that are about
	// to end included.
	Addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error)
}

// NodesConfig configures a Nodes; the zero value works.
type NodesConfig struct {
	Block  time.Duration // length of a block; 0: 1 s
	Grace  time.Duration // how long a block is held open for a node that does not answer; 0: 10 s
	Object bpf.Digest    // of the eBPF object that every probe must have loaded; "": any
	Dial   wire.Config   // how probes are reached; Timeout 0: 2 s
}

// Nodes measures two versions by the probes of many machines: what their pods
// answered at the pods' addresses, added up.
//
// Counters only grow, so a block is the difference of two readings of each node,
// the same reading ending one block and beginning the next: nothing is counted
// twice, and nothing is lost when a daemon is killed and comes back with pinned
// counters. All readings of a block are taken within half a block of each other
// and the time that it takes to ask once; if a node is late, the others are asked
// again. A block with a node missing has no numbers but a fault.
//
// A pod counts from the first reading after it was listed, to its last answer. It is
// not safe for concurrent use.
type Nodes struct {
	fleet Fleet
	cfg   NodesConfig
	dial  func(target string) (prober, error)

	begin, end time.Time // of the first block; of the last one
	nodes      map[string]*node
	listed     time.Time // when the fleet was asked for them; zero: it has to be
	pods       pods      // at the end of the last block
	addrs      [2][]netip.AddrPort
	doubts     doubts
	first      canary.Observation // FirstRequest and FirstError so far
}

// prober is a connection to a probe.
type prober interface {
	Encoded(ctx context.Context) ([]byte, error)
	Close()
}

// LateError means that what a block needs could not be had in time.
type LateError struct {
	Nodes []string // those that did not answer; none: the list of nodes or pods could not be had
	After time.Duration
	Err   error // why not, of the first
}

func (e *LateError) Error() string {
	who := "where the pods are"
	switch n := len(e.Nodes); {
	case n == 1:
		who = "the probe of node " + e.Nodes[0]
	case n > 1:
		who = fmt.Sprintf("the probes of %d nodes (%s, …)", n, strings.Join(e.Nodes[:min(n, 3)], ", "))
	}
	return fmt.Sprintf("%s could not be read for %v: %v", who, e.After.Round(time.Millisecond), e.Err)
}

func (e *LateError) Unwrap() error { return e.Err }

// Temporary reports whether it was the API server that was away, and not a probe:
// that says nothing of what was measured, and another try may succeed.
func (e *LateError) Temporary() bool {
	var both *bothError
	return len(e.Nodes) == 0 && !errors.As(e.Err, &both)
}

// Hint says where to look.
func (e *LateError) Hint() string {
	switch {
	case len(e.Nodes) > 0:
		return "is sluice-probe running and ready on every node (label app.kubernetes.io/name=sluice-probe), and may this pod connect to it?"
	case !e.Temporary():
		return "the Services of the two versions have to select different pods"
	}
	return "is the API server up, and may this service account list pods and EndpointSlices?"
}

// NewNodes takes a first reading of every node and starts the first block then.
// A node that does not answer for as long as Grace is a *LateError.
func NewNodes(ctx context.Context, fleet Fleet, cfg NodesConfig) (*Nodes, error) {
	return newNodes(ctx, fleet, cfg, nil)
}

// newNodes takes another way to a probe.
func newNodes(ctx context.Context, fleet Fleet, cfg NodesConfig, dial func(string) (prober, error)) (*Nodes, error) {
	cfg.Block, cfg.Grace = cmp.Or(cfg.Block, time.Second), cmp.Or(cfg.Grace, 10*time.Second)
	cfg.Dial.Timeout = cmp.Or(cfg.Dial.Timeout, 2*time.Second)
	s := &Nodes{fleet: fleet, cfg: cfg, dial: dial, begin: time.Now(), nodes: map[string]*node{}}
	if dial == nil {
		s.dial = func(target string) (prober, error) { return wire.Dial(target, cfg.Dial) }
	}
	r, err := s.round(ctx)
	if err != nil {
		s.Close()
		return nil, err
	}
	if len(r.nodes) == 0 {
		s.Close()
		return nil, errors.New("no node has pods of either version")
	}
	s.end, s.pods, s.addrs = r.at, r.pods, r.addrs
	for _, n := range r.nodes { // whether the node can be trusted is for the first block to say
		status, err := s.merge(sums{}, n, r)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("reading the probe of node %s: %w", n.name, err)
		}
		n.at = status.At
		n.settle()
	}
	return s, nil
}

// Close lets go of all connections.
func (s *Nodes) Close() {
	for _, n := range s.nodes {
		n.hangUp()
	}
}

// Observe waits until the block is over and returns what was counted in it on
// all nodes. It has a fault if a node cannot be trusted, or does not answer for as
// long as Grace; without all nodes it has no numbers, and what was counted by those
// that do answer is part of the next block. The error is that of ctx.
func (s *Nodes) Observe(ctx context.Context) (canary.Observation, error) {
	select {
	case <-ctx.Done():
		return canary.Observation{}, ctx.Err()
	case <-time.After(time.Until(s.end.Add(s.cfg.Block))):
	}
	obs := canary.Observation{
		Block:        gate.Block{Start: s.end},
		FirstRequest: s.first.FirstRequest, FirstError: s.first.FirstError,
	}
	r, err := s.round(ctx)
	switch {
	case ctx.Err() != nil:
		return canary.Observation{}, ctx.Err()
	case temporary(err):
		return canary.Observation{}, err
	case err != nil:
		obs.End, obs.Fault = time.Now(), err.Error()
		s.end = obs.End
		return obs, nil
	}
	obs.End = r.at
	s.count(r, &obs)
	s.end, s.pods, s.addrs = r.at, r.pods, r.addrs
	s.forget(r)
	return obs, nil
}

func temporary(err error) bool {
	var late *LateError
	return errors.As(err, &late) && late.Temporary()
}

// forget lets go of the nodes that have left.
func (s *Nodes) forget(r *round) {
	for _, n := range r.nodes {
		n.settle()
		if !n.listed && !n.serving && !n.lingering {
			s.drop(n)
		}
	}
}
