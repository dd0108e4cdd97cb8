package source

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
)

const (
	stable, newcomer uint64 = 11, 22
	port             uint16 = 8080
)

// reader hands out prepared snapshots: a probe that loses requests or is
// replaced at will cannot be had from a kernel.
type reader struct {
	snaps []probe.Snapshot
	check error
}

func (r *reader) Snapshot() (probe.Snapshot, error) {
	if len(r.snaps) == 0 {
		return probe.Snapshot{}, errors.New("no snapshot")
	}
	s := r.snaps[0]
	r.snaps = r.snaps[1:]
	return s, nil
}

func (r *reader) Check() error { return r.check }

func at(addr string, group uint64) probe.Workload {
	return probe.Workload{Cgroup: group, Addr: netip.AddrPortFrom(netip.MustParseAddr(addr), port)}
}

func counts(ok, failed, aborted uint64) probe.Counts {
	c := probe.Counts{Requests: ok + failed, Aborted: aborted}
	c.Classes[2], c.Classes[5] = ok, failed
	for range ok + failed {
		c.Latency.Observe(time.Millisecond)
	}
	return c
}

func snapshot(end time.Time, lost uint64, w map[probe.Workload]probe.Counts) probe.Snapshot {
	return probe.Snapshot{At: end, Workloads: w, Loss: probe.Loss{Requests: lost}}
}

func TestObserveCountsWhatCameSinceTheLastBlockOnEveryLocalAddress(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	r := &reader{snaps: []probe.Snapshot{
		snapshot(begin, 0, map[probe.Workload]probe.Counts{at("127.0.0.1", stable): counts(10, 1, 0)}),
		snapshot(begin.Add(time.Second), 0, map[probe.Workload]probe.Counts{
			at("127.0.0.1", stable):   counts(15, 1, 0),
			at("10.0.0.7", stable):    counts(2, 0, 0),
			at("127.0.0.1", newcomer): counts(3, 4, 5),
			{Cgroup: newcomer, Addr: netip.MustParseAddrPort("127.0.0.1:9")}: counts(99, 0, 0),
		}),
	}}
	s, err := NewProbe(r, stable, newcomer, port, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	obs, err := s.Observe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if obs.Baseline.Requests != 7 || obs.Baseline.Errors != 0 {
		t.Errorf("stable: %d requests, %d errors, want 7 and 0", obs.Baseline.Requests, obs.Baseline.Errors)
	}
	if obs.Canary.Requests != 12 || obs.Canary.Errors != 9 {
		t.Errorf("canary: %d requests, %d errors, want 12 and 9: aborted ones are both", obs.Canary.Requests, obs.Canary.Errors)
	}
	if n := obs.Canary.Latency.Count(); n != 7 {
		t.Errorf("canary: %d latencies, want 7: what was aborted has none", n)
	}
	if obs.Fault != "" {
		t.Errorf("fault %q without a reason", obs.Fault)
	}
}

func TestObserveSaysWhyABlockCannotBeTrusted(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	for name, tt := range map[string]struct {
		answered uint64
		lost     uint64
		check    error
		held     bool
		fault    string
		mismatch bool
	}{
		"requests were lost":            {lost: 3, held: true},
		"one of very many was lost":     {lost: 1, answered: 100},
		"two of them were lost":         {lost: 2, answered: 100, held: true},
		"another program is loaded":     {check: &bpf.MismatchError{Program: "ingress", What: "tag", Want: "a", Got: "b"}, fault: "ingress", mismatch: true},
		"the kernel cannot be asked":    {check: errors.New("no answer"), fault: "no answer"},
		"everything is as it should be": {},
	} {
		t.Run(name, func(t *testing.T) {
			served := map[probe.Workload]probe.Counts{at("127.0.0.1", stable): counts(tt.answered, 0, 0), at("127.0.0.1", newcomer): counts(tt.answered, 0, 0)}
			r := &reader{check: tt.check, snaps: []probe.Snapshot{snapshot(begin, 0, nil), snapshot(begin.Add(time.Second), tt.lost, served)}}
			s, err := NewProbe(r, stable, newcomer, port, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			obs, err := s.Observe(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(obs.Fault, tt.fault) || (tt.fault == "") != (obs.Fault == "") {
				t.Errorf("fault %q, want %q", obs.Fault, tt.fault)
			}
			if want := tt.answered; (obs.Held != "") != tt.held || !tt.held && obs.Baseline.Requests != want || tt.held && obs.Baseline.Requests != 0 {
				t.Errorf("held %q, %d requests", obs.Held, obs.Baseline.Requests)
			}
			if obs.Mismatch != tt.mismatch {
				t.Errorf("mismatch %v, want %v", obs.Mismatch, tt.mismatch)
			}
		})
	}
}

func TestAProbeThatLosesRequestsAgainAndAgainIsAFault(t *testing.T) {
	begin := time.Now().Add(-time.Hour)
	r := &reader{}
	for i := range uint64(mostHeld + 3) {
		r.snaps = append(r.snaps, snapshot(begin.Add(time.Duration(i)*time.Second), 3*i, map[probe.Workload]probe.Counts{at("127.0.0.1", newcomer): counts(9*i, 0, 0)}))
	}
	s, err := NewProbe(r, stable, newcomer, port, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for i := range mostHeld + 2 {
		obs, err := s.Observe(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if obs.Held == "" || (obs.Fault != "") != (i >= mostHeld) || obs.Canary.Requests != 0 {
			t.Errorf("block %d: held %q, fault %q, %d requests", i, obs.Held, obs.Fault, obs.Canary.Requests)
		}
	}
}

func TestObserveEndsWithItsContext(t *testing.T) {
	r := &reader{snaps: []probe.Snapshot{snapshot(time.Now(), 0, nil)}}
	s, err := NewProbe(r, stable, newcomer, port, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Observe(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

func TestCountersThatGoBackwardsAreAnError(t *testing.T) {
	begin := time.Now().Add(-time.Minute)
	shrunk := probe.Counts{Latency: histogram.Histogram{}}
	r := &reader{snaps: []probe.Snapshot{
		snapshot(begin, 0, map[probe.Workload]probe.Counts{at("127.0.0.1", stable): counts(10, 0, 0)}),
		snapshot(begin.Add(time.Second), 0, map[probe.Workload]probe.Counts{at("127.0.0.1", stable): shrunk}),
	}}
	s, err := NewProbe(r, stable, newcomer, port, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Observe(t.Context()); !errors.Is(err, histogram.ErrShrunk) {
		t.Errorf("error %v, want %v", err, histogram.ErrShrunk)
	}
}
