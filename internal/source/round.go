package source

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// node is a machine whose counters are followed.
type node struct {
	name, target string
	client       prober
	listed       bool // the fleet still has it

	prev      []byte    // the reading that ended the last block; nil: none yet
	at        time.Time // of that reading, by the node's clock
	before    time.Time // when it had come, by ours: it may have been made as late as that
	serving   bool      // it had pods then
	lingering bool      // it had pods that were not listed any more

	now      []byte // the reading that ends this block
	asked    time.Time
	answered time.Time
	err      error  // why there is none
	met      []*pod // pods that have a workload in it

	lost      lost // in the block
	workloads int  // in the reading
	room      int  // for workloads; 0: not known
}

// needed reports whether a block has to wait for the node. One whose pods have
// left is read for as long as it answers.
func (n *node) needed() bool { return n.listed || n.serving }

// settle makes the end of a block the begin of the next one.
func (n *node) settle() {
	n.prev, n.before, n.now = n.now, n.answered, nil
	n.serving, n.lingering = false, false
	for _, p := range n.met {
		if p.left.IsZero() {
			n.serving = true
		} else {
			n.lingering = true
		}
	}
	n.met = n.met[:0]
}

func (n *node) hangUp() {
	if n.client != nil {
		n.client.Close()
		n.client = nil
	}
}

// round is one reading of every node, and where the pods were after it.
type round struct {
	at    time.Time // when they were asked
	nodes []*node   // by name
	pods  pods
	same  bool // as when the block began
	addrs [2][]netip.AddrPort
}

// How nodes are asked.
const (
	parallel = 64
	pause    = 250 * time.Millisecond // before who is late is asked again
)

// errNoProbe is why a node is late that has no target.
var errNoProbe = errors.New("no probe is ready there")

// round reads every node. Pods are listed after that, so that one that began to
// answer before the reading is among them. The error is that of ctx or a
// *LateError.
func (s *Nodes) round(ctx context.Context) (*round, error) {
	opened := time.Now()
	for _, n := range s.nodes {
		n.now = nil
	}
	for {
		r, late := s.try(ctx)
		if late == nil {
			return r, nil
		}
		s.listed = time.Time{} // perhaps they are elsewhere by now
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if late.After = time.Since(opened); late.After+pause > s.cfg.Grace {
			return nil, late
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// try asks those who have not answered yet. If all have, and some too long ago,
// these are asked again: what is added up belongs to the same moment.
func (s *Nodes) try(ctx context.Context) (*round, *LateError) {
	if time.Since(s.listed) > relist {
		if err := s.list(ctx); err != nil {
			return nil, &LateError{Err: err}
		}
	}
	begin := time.Now()
	s.ask(ctx, func(n *node) bool { return n.now == nil })
	if late := s.late(); late != nil {
		return nil, late
	}
	s.ask(ctx, func(n *node) bool { return begin.Sub(n.asked) > s.cfg.Block/2 })
	if late := s.late(); late != nil {
		return nil, late
	}
	r := &round{at: begin}
	if err := s.locate(ctx, r); err != nil {
		return nil, &LateError{Err: err}
	}
	if !r.same && r.pods.beyond(s.pods) { // a new pod may be on a node that was not known yet
		if err := s.list(ctx); err != nil {
			return nil, &LateError{Err: err}
		}
		s.ask(ctx, func(n *node) bool { return n.now == nil })
		if late := s.late(); late != nil {
			return nil, late
		}
	}
	for _, n := range s.nodes {
		r.nodes = append(r.nodes, n)
	}
	slices.SortFunc(r.nodes, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return r, nil
}

// locate lists the pods.
func (s *Nodes) locate(ctx context.Context, r *round) error {
	stable, canary, err := s.addresses(ctx)
	if err != nil {
		return err
	}
	if s.pods != nil && slices.Equal(stable, s.addrs[stableArm]) && slices.Equal(canary, s.addrs[canaryArm]) && !s.pods.linger() {
		r.pods, r.addrs, r.same = s.pods, s.addrs, true
		return nil
	}
	if !slices.Equal(stable, s.addrs[stableArm]) || !slices.Equal(canary, s.addrs[canaryArm]) {
		s.listed = time.Time{} // so may nodes be
	}
	r.addrs = [2][]netip.AddrPort{stableArm: slices.Clone(stable), canaryArm: slices.Clone(canary)}
	r.pods, err = s.pods.next(stable, canary, time.Now())
	return err
}

const (
	listing = 5 * time.Second  // bounds one question to the fleet
	relist  = 10 * time.Second // how long the nodes are those that were listed, if all answer and no pod comes or goes
)

func (s *Nodes) addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error) {
	ctx, cancel := context.WithTimeout(ctx, listing)
	defer cancel()
	if stable, canary, err = s.fleet.Addresses(ctx); err != nil {
		return nil, nil, fmt.Errorf("listing the addresses of the pods: %w", err)
	}
	return stable, canary, nil
}

// list takes nodes in that are new, and those out that have left and had no pod of
// ours when the block began.
func (s *Nodes) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listing)
	defer cancel()
	nodes, err := s.fleet.Nodes(ctx)
	if err != nil {
		return fmt.Errorf("listing the nodes: %w", err)
	}
	s.listed = time.Now()
	for _, n := range s.nodes {
		n.listed = false
	}
	for _, l := range nodes {
		n := s.nodes[l.Name]
		if n == nil {
			n = &node{name: l.Name}
			s.nodes[l.Name] = n
		}
		n.listed = true
		if l.Target != n.target { // a probe that was started anew has another address
			n.hangUp()
			n.target = l.Target
		}
	}
	for _, n := range s.nodes {
		if !n.needed() && !n.lingering {
			s.drop(n)
		}
	}
	return nil
}

func (s *Nodes) drop(n *node) {
	n.hangUp()
	delete(s.nodes, n.name)
}

// ask asks those nodes of which which is true, some at a time.
func (s *Nodes) ask(ctx context.Context, which func(*node) bool) {
	var group sync.WaitGroup
	slots := make(chan struct{}, parallel)
	for _, n := range s.nodes {
		if !which(n) {
			continue
		}
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			n.asked = time.Now()
			n.now, n.err = s.read(ctx, n)
			n.answered = time.Now()
		})
	}
	group.Wait()
}

func (s *Nodes) read(ctx context.Context, n *node) ([]byte, error) {
	if n.target == "" {
		return nil, errNoProbe
	}
	if n.client == nil {
		var err error
		if n.client, err = s.dial(n.target); err != nil {
			return nil, err
		}
	}
	return n.client.Encoded(ctx)
}

// late is who has not answered; nil if all have that are needed. The others are
// dropped.
func (s *Nodes) late() *LateError {
	late := &LateError{}
	for _, n := range s.nodes {
		switch {
		case n.now == nil && !n.needed():
			s.drop(n)
		case n.now == nil:
			late.Nodes = append(late.Nodes, n.name)
		}
	}
	if len(late.Nodes) == 0 {
		return nil
	}
	slices.Sort(late.Nodes)
	late.Err = s.nodes[late.Nodes[0]].err
	return late
}
