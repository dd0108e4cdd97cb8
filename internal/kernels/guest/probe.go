package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

// groups is where control groups are made.
const groups = "/sys/fs/cgroup/"

// measured is a service and the probe that measures it. The trials share it:
// loading takes long in an emulated machine.
type measured struct {
	probe    *probe.Probe
	attached bool
	service  *service
}

// probeTrials are tried in this order: without the first nothing goes.
func probeTrials() (trials []trial, done func(), err error) {
	needs, err := promised(probe.Object())
	if err != nil {
		return nil, nil, err
	}
	m := &measured{}
	trials = []trial{
		{"probe: loads", needs, m.load},
		{"probe: attaches", needs, m.attach},
	}
	for socket, way := range []string{"IPv4", "IPv6", "a socket that accepts late"} {
		for _, protocol := range []struct {
			name  string
			kinds mix
		}{{"HTTP/1.1", http1}, {"h2c", http2}, {"gRPC", grpc}} {
			trials = append(trials, trial{"probe: counts " + protocol.name + " over " + way, needs, func(ctx context.Context) error {
				return m.counts(ctx, socket, protocol.kinds)
			}})
		}
	}
	trials = append(trials,
		trial{"probe: counts requests without an answer", needs, m.aborts},
		trial{"probe: tells connections that it cannot read", needs, m.unmeasured},
		trial{"probe: counts outgoing connections", needs, m.outgoing},
		trial{"probe: exemplars carry the trace", needs, m.exemplars},
		trial{"probe: a check finds another program in front", needs, m.check},
		trial{"probe: a swap under load loses nothing", needs, m.swap},
		trial{"probe: goes on from its pins", needs, m.goesOn},
	)
	return trials, m.close, nil
}

// options pin the probe, for the trial goesOn.
var options = probe.Options{Workloads: 16, Outgoing: true, Pin: "/sys/fs/bpf/probe"}

func (m *measured) load(context.Context) error {
	p, err := probe.Load(probe.Object(), bpf.DigestOf(probe.Object()), options)
	if err == nil {
		m.probe = p
	}
	return err
}

// errNotLoaded and errNotAttached mean that a trial makes no sense.
var (
	errNotLoaded   = fmt.Errorf("%w, because the probe was not loaded", errNotTried)
	errNotAttached = fmt.Errorf("%w, because the probe is not attached", errNotTried)
)

func (m *measured) attach(context.Context) (err error) {
	if m.probe == nil {
		return errNotLoaded
	}
	m.service, err = start(groups+"measured", m.probe.Attach, "127.0.0.1:0", "[::1]:0", lateMark+"127.0.0.1:0")
	m.attached = err == nil
	return err
}

func (m *measured) close() {
	if m.service != nil {
		m.service.stop()
	}
	if m.probe != nil {
		_ = m.probe.Close()
	}
}

// counts sends a known number of requests and expects exactly these. A processor
// that the machine outside takes away makes a hole in a connection of HTTP/2; if
// the probe says so, it is tried again.
func (m *measured) counts(ctx context.Context, socket int, kinds mix) (err error) {
	for range 3 {
		before, lossErr := m.loss()
		if err = errors.Join(lossErr, m.countsOnce(ctx, socket, kinds)); err == nil {
			return nil
		}
		if after, lossErr := m.loss(); lossErr != nil || after == before {
			return err
		}
	}
	return err
}

// loss is what the probe says that it has lost.
func (m *measured) loss() (probe.Loss, error) {
	if !m.attached {
		return probe.Loss{}, errNotAttached
	}
	s, err := m.probe.Snapshot()
	s.Loss.Exemplars = 0
	return s.Loss, err
}

func (m *measured) countsOnce(ctx context.Context, socket int, kinds mix) error {
	const each = 60
	before, err := m.at(socket)
	if err != nil {
		return err
	}
	sent, err := kinds.send(ctx, m.service.socks[socket].addr, each)
	if err != nil {
		return err
	}
	return eventually(ctx, func() error {
		after, err := m.at(socket)
		if err != nil {
			return err
		}
		return sent.compare(before, after)
	})
}

// at is what was counted at one socket of the service.
func (m *measured) at(socket int) (probe.Counts, error) {
	if !m.attached {
		return probe.Counts{}, errNotAttached
	}
	addr, err := netip.ParseAddrPort(m.service.socks[socket].addr)
	if err != nil {
		return probe.Counts{}, err
	}
	return m.find(func(w probe.Workload) bool { return w.Addr == addr })
}

// find is what was counted for a workload of the service; zero if it is not
// there.
func (m *measured) find(is func(probe.Workload) bool) (probe.Counts, error) {
	group, err := m.service.group.ID()
	if err != nil {
		return probe.Counts{}, err
	}
	snap, err := m.probe.Snapshot()
	if err != nil {
		return probe.Counts{}, err
	}
	for w, c := range snap.Workloads {
		if w.Cgroup == group && is(w) {
			return c, nil
		}
	}
	return probe.Counts{}, nil
}

// eventually asks until there is no error, or returns the last one after a while.
func eventually(ctx context.Context, ask func() error) error {
	return within(ctx, 5*time.Second, ask)
}

func within(ctx context.Context, limit time.Duration, ask func() error) error {
	const pause = 10 * time.Millisecond
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %w", limit, err)
		case <-time.After(pause):
		}
	}
}
