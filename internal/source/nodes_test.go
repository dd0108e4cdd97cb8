package source

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestABlockIsWhatAllNodesCountedSinceTheLastOne(t *testing.T) {
	c := newCluster(t)
	a, b := c.machines["a"], c.machines["b"]
	a.serve(podA, 1000, 7) // before
	s := watch(t, c)
	a.serve(podA, 10, 1)
	b.serve(podB, 20, 2)
	b.serveIn(2, podB, 1, 0) // the same pod, its container started anew
	b.serve(podC, 5, 3)
	b.serve("10.0.1.9:8080", 99, 99) // somebody else's
	b.serve("10.0.1.2:9090", 99, 99) // another port
	b.change(func(st *wire.Status) { st.Workloads[probe.Workload{Cgroup: 1}] = counts(50, 0, 0) })
	obs := observe(t, s)
	if got, want := numbers(obs), [4]uint64{34, 3, 8, 3}; got != want || obs.Fault != "" {
		t.Errorf("%v (%s), want %v", got, obs.Fault, want)
	}
	if n := obs.Canary.Latency.Count(); n != 8 {
		t.Errorf("%d latencies, want 8", n)
	}
	if obs.FirstRequest.Before(obs.Start) || obs.FirstError.After(obs.End) || obs.FirstError.IsZero() {
		t.Errorf("first request %v, first error %v, in the block from %v to %v", obs.FirstRequest, obs.FirstError, obs.Start, obs.End)
	}
	next := observe(t, s)
	if numbers(next) != [4]uint64{} || !next.Start.Equal(obs.End) || next.FirstRequest != obs.FirstRequest {
		t.Errorf("the next block: %+v", next.Block)
	}
}

// However requests fall between readings, each is in one block.
func TestBlocksNeitherOverlapNorLeaveAnythingOut(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	var traffic sync.WaitGroup
	for name, pod := range map[string]string{"a": podA, "b": podC} {
		traffic.Go(func() {
			for range 300 {
				c.machines[name].serve(pod, 2, 1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	done := make(chan struct{})
	go func() { traffic.Wait(); close(done) }()
	var sum [4]uint64
	for last := false; !last; {
		select {
		case <-done:
			last = true
		default:
		}
		for i, n := range block(t, s) {
			sum[i] += n
		}
	}
	if want := [4]uint64{900, 300, 900, 300}; sum != want {
		t.Errorf("%v in all blocks, want %v", sum, want)
	}
}

func TestABlockStaysOpenForANodeThatIsLate(t *testing.T) {
	c := newCluster(t)
	a, b := c.machines["a"], c.machines["b"]
	s := watch(t, c)
	b.replace(broken)
	b.serve(podC, 3, 0)
	go func() {
		time.Sleep(400 * time.Millisecond)
		a.serve(podA, 5, 0) // after a has answered for the first time
		b.replace(nil)
	}()
	obs := observe(t, s)
	if got, want := numbers(obs), [4]uint64{5, 0, 3, 0}; got != want || obs.Fault != "" {
		t.Errorf("%v (%s), want %v: a has to be read again", got, obs.Fault, want)
	}
	if took := obs.End.Sub(obs.Start); took < 400*time.Millisecond {
		t.Errorf("the block is %v long", took)
	}
}

func TestWithoutANodeThereIsNoNumberAndNothingIsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		down func(c *cluster)
		up   func(c *cluster)
		text string
	}{
		"the probe cannot read": {
			func(c *cluster) { c.machines["b"].replace(broken) },
			func(c *cluster) { c.machines["b"].replace(nil) },
			"the probe of node b could not be read for",
		},
		"it hangs": {
			func(c *cluster) {
				c.machines["b"].replace(func(http.ResponseWriter) bool { time.Sleep(2500 * time.Millisecond); return false })
			},
			func(c *cluster) { c.machines["b"].replace(nil) },
			"deadline exceeded",
		},
		"it is somebody else": {
			func(c *cluster) {
				c.machines["b"].replace(func(w http.ResponseWriter) bool { _, _ = w.Write([]byte("<html>login</html>")); return true })
			},
			func(c *cluster) { c.machines["b"].replace(nil) },
			"text/html",
		},
		"no probe is ready": {
			func(c *cluster) { c.machines["b"].replace(broken); c.move("b", "") },
			func(c *cluster) { c.machines["b"].replace(nil); c.move("b", c.back) },
			"no probe is ready there",
		},
		"an address is of both versions": {
			func(c *cluster) { c.pods([]string{podA, podB, podC}, []string{podC}) },
			func(c *cluster) { c.pods([]string{podA, podB}, []string{podC}) },
			"of the stable version and of the canary",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.back = c.machines["b"].url
			s := watch(t, c)
			a, b := c.machines["a"], c.machines["b"]
			a.serve(podA, 5, 1)
			tt.down(c)
			s.cfg.Grace = short
			obs := observe(t, s)
			s.cfg.Grace = patience
			if numbers(obs) != [4]uint64{} || !strings.Contains(obs.Fault, tt.text) || obs.Mismatch {
				t.Errorf("%v, fault %q, want … %s", numbers(obs), obs.Fault, tt.text)
			}
			tt.up(c)
			b.serve(podC, 7, 0)
			next := observe(t, s)
			if got, want := numbers(next), [4]uint64{6, 1, 7, 0}; got != want || next.Fault != "" {
				t.Errorf("then %v (%s), want %v", got, next.Fault, want)
			}
			if !next.Start.Equal(obs.End) {
				t.Error("the blocks overlap")
			}
		})
	}
}

// Nothing is wrong with the release, nor with the probes: who asks may try again.
func TestAnAPIServerThatIsAwayHoldsTheBlockAndGivesNoVerdict(t *testing.T) {
	for name, tt := range map[string]struct {
		back      time.Duration // when it is there again; 0: not while the block is open
		temporary bool
	}{
		"it is back within the grace":   {back: 400 * time.Millisecond},
		"it is away for longer than it": {temporary: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			s := watch(t, c)
			c.machines["a"].serve(podA, 5, 1)
			begin := s.end
			c.fails(errors.New("connection refused"))
			if tt.back > 0 {
				time.AfterFunc(tt.back, func() { c.fails(nil) })
			} else {
				s.cfg.Grace = short
			}
			obs, err := s.Observe(t.Context())
			var late *LateError
			if got := errors.As(err, &late) && late.Temporary(); got != tt.temporary || obs.Fault != "" {
				t.Fatalf("temporary %v: %v; fault %q", got, err, obs.Fault)
			}
			if tt.temporary {
				if numbers(obs) != [4]uint64{} || !strings.Contains(err.Error(), "where the pods are could not be read for") || !strings.Contains(late.Hint(), "API server") {
					t.Errorf("%v, %v (%s)", numbers(obs), err, late.Hint())
				}
				c.fails(nil)
				s.cfg.Grace = patience
				obs = observe(t, s)
			}
			if got, want := numbers(obs), [4]uint64{6, 1}; got != want || !obs.Start.Equal(begin) || obs.Fault != "" {
				t.Errorf("%v from %v (%s), want %v from %v", got, obs.Start, obs.Fault, want, begin)
			}
		})
	}
}

func TestWithoutAPIServerThereIsNoSourceAndNoVerdictEither(t *testing.T) {
	c := newCluster(t)
	for name, tt := range map[string]struct {
		err       error
		temporary bool
	}{"the API server is away": {errors.New("connection refused"), true}, "a probe is": {nil, false}} {
		c.fails(tt.err)
		c.machines["a"].replace(broken)
		_, err := NewNodes(t.Context(), c, NodesConfig{Grace: 100 * time.Millisecond})
		var late *LateError
		if !errors.As(err, &late) || late.Temporary() != tt.temporary {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestADaemonThatComesBackOverItsCountersLosesNothing(t *testing.T) {
	c := newCluster(t)
	b := c.machines["b"]
	b.change(func(s *wire.Status) { s.Mismatches, s.Swaps, s.Cost = 3, 2, wire.Cost{Runs: 9, Time: 9} })
	s := watch(t, c)
	b.serve(podC, 5, 0)
	b.change(func(s *wire.Status) { s.Mismatches, s.Swaps, s.Cost = 0, 0, wire.Cost{} })
	if got := block(t, s); got != [4]uint64{2: 5} {
		t.Errorf("%v", got)
	}
}

func TestPodsThatComeAndGo(t *testing.T) {
	c := newCluster(t)
	a, b := c.machines["a"], c.machines["b"]
	s := watch(t, c)
	step := func(what string, want [4]uint64) {
		t.Helper()
		if got := block(t, s); got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	const late = "10.0.0.2:8080"
	a.serve(late, 0, 4) // to a kubelet that asks whether it is ready
	c.pods([]string{podA, podB}, []string{podC, late})
	step("what a new pod answered before it was ready does not count", [4]uint64{})
	a.serve(late, 5, 1)
	step("and then everything does", [4]uint64{2: 6, 3: 1})

	a.serve(late, 3, 0)
	c.pods([]string{podA, podB}, []string{podC})
	step("one that ended within the block counts to its last", [4]uint64{2: 3})
	a.serve(late, 0, 8)
	step("one that is only not ready counts, too", [4]uint64{2: 8, 3: 8})
	for _, p := range s.pods {
		if !p.left.IsZero() {
			p.left = p.left.Add(-linger)
		}
	}
	block(t, s)
	a.serve(late, 8, 0)
	step("but not for ever", [4]uint64{})

	b.serve(podB, 2, 2)
	c.pods([]string{podA}, []string{podC, podB})
	step("an address that went from one version to the other is nobody's", [4]uint64{})
	b.serve(podB, 6, 0)
	step("and then the other's", [4]uint64{2: 6})
}

func TestNodesThatComeAndGo(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	d := newMachine(t, "d")
	d.serveIn(7, podD, 40, 40) // of another pod that had the address, or to a kubelet
	c.pods([]string{podA, podB}, []string{podC, podD})
	c.join(d)
	if got := block(t, s); got != [4]uint64{} {
		t.Errorf("the first reading of a new node counts nothing, got %v", got)
	}
	d.serveIn(8, podD, 6, 2)
	if got := block(t, s); got != [4]uint64{2: 8, 3: 2} {
		t.Errorf("and the second what came since: %v", got)
	}
	d.serveIn(8, podD, 3, 0)
	c.leave("d")
	c.pods([]string{podA, podB}, []string{podC})
	if got := block(t, s); got != [4]uint64{2: 3} {
		t.Errorf("a node that is drained is read once more: %v", got)
	}
	d.serveIn(8, podD, 2, 0)
	if got := block(t, s); got != [4]uint64{2: 2} {
		t.Errorf("and for as long as it answers, since its pod may only be not ready: %v", got)
	}
	d.replace(broken)
	if got := block(t, s); got != [4]uint64{} || s.nodes["d"] != nil {
		t.Errorf("and then forgotten: %v", got)
	}
}

// The fleet lists nodes and pods one after the other: a pod may come in between.
func TestANodeOfANewPodIsReadAtOnce(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	d := newMachine(t, "d")
	c.pods([]string{podA, podB}, []string{podC, podD})
	joined := false
	c.machines["a"].replace(func(http.ResponseWriter) bool {
		if !joined { // the nodes are listed already
			joined = true
			c.join(d)
		}
		return false
	})
	block(t, s)
	d.serve(podD, 9, 0)
	if got := block(t, s); got != [4]uint64{2: 9} {
		t.Errorf("%v", got)
	}
}

func TestANodeThatVanishesWithPodsIsMissed(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	c.machines["b"].serve(podC, 1, 0)
	block(t, s)
	c.leave("b")
	c.pods([]string{podA}, nil)
	c.machines["b"].replace(broken)
	if obs := observe(t, s); !strings.Contains(obs.Fault, "node b") {
		t.Errorf("fault %q: its pods may have been the reason", obs.Fault)
	}
}

func TestAProbeAtAnotherAddressIsTheSameNode(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	old, again := c.machines["b"], newMachine(t, "b")
	again.change(func(st *wire.Status) { *st = old.status })
	again.serve(podC, 4, 0)
	c.leave("b")
	c.join(again)
	if got := block(t, s); got != [4]uint64{2: 4} {
		t.Errorf("%v", got)
	}
}

func TestObserveEndsWithItsContextWhateverItWaitsFor(t *testing.T) {
	for name, hang := range map[string]bool{"the end of the block": false, "a node": true} {
		c := newCluster(t)
		s := watch(t, c)
		s.cfg.Grace = time.Hour
		if hang {
			c.machines["a"].replace(broken)
		} else {
			s.cfg.Block = time.Hour
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, err := s.Observe(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWithoutAFirstReadingThereIsNoSource(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(c *cluster)
		text   string
	}{
		"a node does not answer": {func(c *cluster) { c.machines["a"].replace(broken) }, "the probe of node a could not be read for"},
		"two do not":             {func(c *cluster) { c.machines["a"].replace(broken); c.machines["b"].replace(broken) }, "the probes of 2 nodes (a, b, …)"},
		"the list fails":         {func(c *cluster) { c.fails(errors.New("forbidden")) }, "listing the nodes: forbidden"},
		"there is no node":       {func(c *cluster) { c.leave("a"); c.leave("b") }, "no node has pods"},
		"an answer is nonsense": {func(c *cluster) {
			c.machines["a"].replace(func(w http.ResponseWriter) bool {
				w.Header().Set("Content-Type", wire.MediaType)
				_, _ = w.Write([]byte("nonsense"))
				return true
			})
		}, "reading the probe of node a"},
		"an address is of both": {func(c *cluster) { c.pods([]string{podA}, []string{podA}) }, "of the stable version and of the canary"},
	} {
		c := newCluster(t)
		tt.change(c)
		s, err := NewNodes(t.Context(), c, NodesConfig{Grace: 100 * time.Millisecond})
		if err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
			continue
		}
		var late *LateError
		if !strings.Contains(err.Error(), tt.text) || errors.As(err, &late) && late.Hint() == "" {
			t.Errorf("%s: %v, want … %s", name, err, tt.text)
		}
	}
}
