package source

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// crowd fills a node with workloads of others.
func crowd(m *machine) {
	m.change(func(s *wire.Status) {
		for i := range 256 {
			s.Workloads[probe.Workload{Cgroup: 99, Addr: netip.MustParseAddrPort(fmt.Sprintf("10.9.0.%d:80", i))}] = probe.Counts{}
		}
	})
}

func lose(requests, desynced, older uint64) func(*machine) {
	return func(m *machine) {
		m.change(func(s *wire.Status) {
			s.Loss.Requests += requests
			s.Loss.Desynced += desynced
			s.Loss.Older += older
		})
	}
}

// Node a has a pod of the stable version, b one of either, d none, unless a pod
// that no probe has met is there. The stable version has 1000 requests on a and 20
// on b, the canary 100 on b.
func TestABlockCountsUnlessTooMuchMayBeMissingOfIt(t *testing.T) {
	for name, tt := range map[string]struct {
		node   string
		change []func(*machine)
		unmet  string // version of another pod, to which nobody has connected
		held   string
	}{
		"nothing was lost":                                {node: "b"},
		"one request in 200 of both versions":             {node: "b", change: []func(*machine){lose(5, 0, 0)}},
		"more than that":                                  {node: "b", change: []func(*machine){lose(6, 0, 0)}, held: "the probe of node b lost 6 requests"},
		"where only the stable version is, few":           {node: "a", change: []func(*machine){lose(0, 20, 0)}},
		"where the canary is, as many are too many of it": {node: "b", change: []func(*machine){lose(0, 20, 0)}, held: "node b lost 20"},
		"connections that were lost track of, one in 20":  {node: "b", change: []func(*machine){lose(0, 5, 0)}},
		"and more":                                               {node: "b", change: []func(*machine){lose(0, 6, 0)}, held: "node b lost 6"},
		"connections older than the probe":                       {node: "b", change: []func(*machine){lose(0, 0, 6)}, held: "node b lost 6"},
		"all of it together":                                     {node: "b", change: []func(*machine){lose(2, 2, 2)}, held: "node b lost 6"},
		"where no pod of ours is, however many":                  {node: "d", change: []func(*machine){lose(5000, 5000, 5000)}},
		"there is no room there, and all our pods are elsewhere": {node: "d", change: []func(*machine){crowd, lose(5000, 0, 0)}},
		"a pod that nobody has met, and there was room":          {node: "d", change: []func(*machine){lose(5000, 0, 0)}, unmet: "canary"},
		"a pod that nobody has met may be where there is none":   {node: "d", change: []func(*machine){crowd, lose(30, 0, 0)}, unmet: "canary", held: "the probe of node d, which can tell 256 workloads apart (--workloads) and has 256, lost 30"},
		"if it is the canary's, few are enough":                  {node: "d", change: []func(*machine){crowd, lose(0, 6, 0)}, unmet: "canary", held: "node d, "},
		"and not if it is the stable version's":                  {node: "d", change: []func(*machine){crowd, lose(0, 6, 0)}, unmet: "stable"},
		"nobody says how much room there is":                     {node: "d", change: []func(*machine){func(m *machine) { m.change(func(s *wire.Status) { s.Loaded.Maps = nil }) }, lose(30, 0, 0)}, unmet: "canary", held: "node d lost 30"},
		"others on the node speak TLS, and exemplars were late": {node: "b", change: []func(*machine){func(m *machine) {
			m.change(func(s *wire.Status) { s.Loss.Unmeasured += 5000; s.Loss.Exemplars += 5000 })
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a, b := c.machines["a"], c.machines["b"]
			c.join(newMachine(t, "d"))
			switch tt.unmet {
			case "canary":
				c.pods([]string{podA, podB}, []string{podC, podD})
			case "stable":
				c.pods([]string{podA, podB, podD}, []string{podC})
			}
			s := watch(t, c)
			a.serve(podA, 1000, 0)
			b.serve(podB, 20, 0)
			b.serve(podC, 90, 10)
			for _, change := range tt.change {
				change(c.machines[tt.node])
			}
			obs := observe(t, s)
			want := [4]uint64{1020, 0, 100, 10}
			if tt.held != "" {
				want = [4]uint64{}
			}
			if got := numbers(obs); got != want || obs.Fault != "" || !strings.Contains(obs.Held, tt.held) || (obs.Held == "") != (tt.held == "") {
				t.Errorf("%v, held %q, fault %q; want %v, held … %s", got, obs.Held, obs.Fault, want, tt.held)
			}
			b.serve(podC, 3, 0)
			if got := block(t, s); got != [4]uint64{2: 3} {
				t.Errorf("the next block: %v", got)
			}
		})
	}
}

func TestANewNodeHasLostNothingYet(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	d := newMachine(t, "d")
	lose(500, 500, 500)(d)
	c.join(d)
	c.pods([]string{podA, podB}, []string{podC, podD})
	c.machines["b"].serve(podC, 3, 0)
	if got := block(t, s); got != [4]uint64{2: 3} {
		t.Errorf("%v", got)
	}
}

func TestOnlyALossThatDoesNotEndMakesTheMeasurementInvalid(t *testing.T) {
	for name, tt := range map[string]struct {
		held     func(block int) bool
		answered func(block int) uint64
		fault    int // first block with one; 0: none
	}{
		"now and then":          {held: func(i int) bool { return i%5 == 0 }},
		"for ten blocks":        {held: func(i int) bool { return i > 100 && i <= 110 }},
		"ten in two minutes":    {held: func(i int) bool { return i%60 < 10 }},
		"in every block":        {held: func(int) bool { return true }, fault: mostHeld},
		"in every third block":  {held: func(i int) bool { return i%3 == 0 }, fault: 3 * mostHeld},
		"from some time on":     {held: func(i int) bool { return i >= 100 }, fault: 100 + mostHeld},
		"and no canary answers": {held: func(int) bool { return true }, answered: func(int) uint64 { return 0 }},
		"it answers seldom, and then nothing is lost": {
			held:     func(i int) bool { return i%10 != 0 },
			answered: func(i int) uint64 { return uint64(1 - min(1, i%10)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			var d doubts
			for i := range 300 {
				why, answered := "", uint64(7)
				if tt.held(i) {
					why = "the probe lost 3 requests"
				}
				if tt.answered != nil {
					answered = tt.answered(i)
				}
				got := d.add(why, answered)
				if i == tt.fault && tt.fault > 0 {
					if !strings.Contains(got, "blocks count for nothing: the probe lost 3") {
						t.Errorf("block %d: %q", i, got)
					}
					return
				}
				if got != "" {
					t.Fatalf("block %d: %q", i, got)
				}
			}
			if tt.fault > 0 {
				t.Error("no fault")
			}
		})
	}
}

// A neighbour that loses a few requests each second never makes a busy service's
// release invalid, and a quiet one's only after a while.
func TestANeighbourThatLosesRequestsAllTheTime(t *testing.T) {
	for name, tt := range map[string]struct {
		each  uint64
		fault bool
	}{"a busy service": {each: 300}, "a quiet one": {each: 10, fault: true}} {
		c := newCluster(t)
		b := c.machines["b"]
		s := watch(t, c)
		for i := range mostHeld + 5 {
			c.machines["a"].serve(podA, tt.each, 0)
			b.serve(podB, tt.each, 0)
			b.serve(podC, tt.each, 0)
			lose(2, 0, 0)(b)
			obs := observe(t, s)
			if (obs.Fault != "") != (tt.fault && i >= mostHeld) || (obs.Held != "") != tt.fault {
				t.Errorf("%s, block %d: held %q, fault %q", name, i, obs.Held, obs.Fault)
			}
		}
	}
}
