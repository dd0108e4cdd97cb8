package source

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestABlockThatCannotBeTrustedSaysWhy(t *testing.T) {
	for name, tt := range map[string]struct {
		change   func(b *machine)
		fault    string
		mismatch bool
		numbers  bool // they are there all the same
	}{
		"all is well":                        {func(*machine) {}, "", false, true},
		"another object":                     {func(b *machine) { b.change(func(s *wire.Status) { s.Loaded.Digest = bpf.DigestOf(nil) }) }, "node b: the probe's object is sha256:e3b0c442", true, true},
		"no object":                          {func(b *machine) { b.change(func(s *wire.Status) { s.Loaded = bpf.Loaded{} }) }, "object is not known", true, true},
		"something else in the kernel":       {func(b *machine) { b.change(func(s *wire.Status) { s.Mismatch = "ingress: tag" }) }, "node b: ingress: tag", true, true},
		"it was put right since":             {func(b *machine) { b.change(func(s *wire.Status) { s.Mismatches += 2 }) }, "than what was verified 2 times", true, true},
		"the probe costs too much":           {func(b *machine) { b.change(func(s *wire.Status) { s.Budget = wire.Budget{Share: 0.07, Limit: 0.05} }) }, "takes 7.0 % of a core, more than its 5.0 %", false, true},
		"the probe was started anew":         {func(b *machine) { b.change(func(s *wire.Status) { s.Start.Loaded = time.Now() }) }, "the probe was started anew", false, false},
		"the machine was":                    {func(b *machine) { b.change(func(s *wire.Status) { s.Start.Boot = "other" }) }, "the machine was started anew", false, false},
		"a counter shrank":                   {func(b *machine) { b.change(func(s *wire.Status) { clear(s.Workloads) }); b.serve(podC, 1, 0) }, "shrank", false, false},
		"another node answers":               {func(b *machine) { b.change(func(s *wire.Status) { s.Node = "z" }) }, `that one is of node "b"`, false, false},
		"nonsense":                           {nonsense, "node b: ", false, false},
		"a cut answer":                       {half, "node b: ", false, false},
		"requests were lost":                 {func(b *machine) { b.change(func(s *wire.Status) { s.Loss.Requests += 3 }) }, "", false, false},
		"others on the node speak TLS":       {func(b *machine) { b.change(func(s *wire.Status) { s.Loss.Unmeasured += 5000 }) }, "", false, true},
		"exemplars that nobody read in time": {func(b *machine) { b.change(func(s *wire.Status) { s.Loss.Exemplars += 5000 }) }, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			a, b := c.machines["a"], c.machines["b"]
			b.serve(podC, 100, 0)
			s := watch(t, c)
			a.serve(podA, 60, 0)
			b.serve(podC, 19, 0)
			tt.change(b)
			obs := observe(t, s)
			if !strings.Contains(obs.Fault, tt.fault) || (tt.fault == "") != (obs.Fault == "") || obs.Mismatch != tt.mismatch {
				t.Errorf("fault %q (mismatch %v), want … %s", obs.Fault, obs.Mismatch, tt.fault)
			}
			want := [4]uint64{}
			if tt.numbers {
				want = [4]uint64{0: 60, 2: 19}
			}
			if got := numbers(obs); got != want {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func nonsense(b *machine) {
	b.replace(func(w http.ResponseWriter) bool {
		w.Header().Set("Content-Type", wire.MediaType)
		_, _ = w.Write([]byte("nonsense"))
		return true
	})
}

// half is an answer that lacks its end, with the right length.
func half(b *machine) {
	b.replace(func(w http.ResponseWriter) bool {
		whole := wire.Encode(nil, &b.status)
		w.Header().Set("Content-Type", wire.MediaType)
		_, _ = w.Write(whole[:len(whole)-7])
		return true
	})
}

func TestTwoNodesMayNotBeOneProbe(t *testing.T) {
	c := newCluster(t)
	c.machines["b"].change(func(s *wire.Status) { s.Start = c.machines["a"].status.Start })
	s := watch(t, c)
	if obs := observe(t, s); !strings.Contains(obs.Fault, "nodes a and b are answered for by the same probe") {
		t.Errorf("fault %q", obs.Fault)
	}
}

func TestAProbeThatCountsNoMoreIsNoticed(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	s.cfg.Block = stillAfter + 50*time.Millisecond
	c.machines["b"].still = true
	if obs := observe(t, s); !strings.Contains(obs.Fault, "node b: nobody reads the probe's counters") {
		t.Errorf("fault %q", obs.Fault)
	}
}

func TestAMismatchOfThePastIsNotOfANewNode(t *testing.T) {
	c := newCluster(t)
	s := watch(t, c)
	d := newMachine(t, "d")
	d.change(func(st *wire.Status) { st.Mismatches = 4 })
	c.join(d)
	block(t, s)
}

func TestFaultsAreListedUpToAFew(t *testing.T) {
	var f faults
	for _, why := range []string{"a", "b", "", "c", "d", "e"} {
		f.add(why)
	}
	f.found("another object")
	if got, want := f.String(), "another object; a; b; and 3 more"; got != want || !f.mismatch {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestAPodThatNoProbeSeesIsNamed(t *testing.T) {
	begin := time.Now()
	for name, tt := range map[string]struct {
		known    bool
		requests uint64 // of its version in a block
		blocks   int
		fault    bool
	}{
		"a probe has seen a connection":  {known: true, requests: 100, blocks: 30},
		"its version has no requests":    {blocks: 30},
		"few requests may go elsewhere":  {requests: 1, blocks: 30},
		"many may not":                   {requests: 3, blocks: 30, fault: true},
		"but a kubelet may not be there": {requests: 1000, blocks: 10},
	} {
		p, err := pods(nil).next(addresses([]string{podA}), addresses([]string{podC, podD}), begin)
		if err != nil {
			t.Fatal(err)
		}
		p[addresses([]string{podA})[0]].known = true
		p[addresses([]string{podC})[0]].known = true
		p[addresses([]string{podD})[0]].known = tt.known
		got := ""
		for i := range tt.blocks {
			got = p.unseen([2]uint64{stableArm: 500, canaryArm: tt.requests}, begin.Add(time.Duration(i+1)*time.Second))
		}
		if (got != "") != tt.fault || tt.fault && !strings.Contains(got, "10.0.2.1:8080, a pod of the canary") {
			t.Errorf("%s: %q", name, got)
		}
	}
}
