package gate_test

import (
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// serve is n requests spread evenly from half to one and a half times typical.
func serve(n int, typical time.Duration, failed uint64) gate.Arm {
	a := gate.Arm{Requests: uint64(n), Errors: failed}
	for i := range n {
		a.Latency.Observe(typical/2 + time.Duration(i)*typical/time.Duration(n))
	}
	return a
}

// A canary that takes twice as long fails after a few seconds.
func ExampleGate_Observe() {
	g, err := gate.New(gate.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for second := 1; ; second++ {
		v := g.Observe(gate.Block{
			Baseline: serve(90, 4*time.Millisecond, 0),
			Canary:   serve(10, 8*time.Millisecond, 0),
		})
		if v.Outcome == gate.Inconclusive {
			continue
		}
		fmt.Println("after", second, "s:", v.Outcome, "exit", v.Outcome.ExitCode())
		for _, c := range v.Checks {
			fmt.Println(c)
		}
		return
	}
	// Output:
	// after 3 s: fail exit 1
	// latency  fail  p75 5.07 ms → 9.7 ms, slower by 57–131 % (last 2 blocks)  odds 2 157 : 1  n 270 / 30
	// errors  inconclusive  failed 0 % → 0 %, between 1.4 points fewer and 11 more  pass odds 1.2 : 1  n 270 / 30
}

// A healthy canary passes when the weakest check has seen enough.
func ExampleReplay() {
	blocks := make([]gate.Block, 200)
	for i := range blocks {
		blocks[i].Baseline = serve(90, 4*time.Millisecond, 0)
		blocks[i].Canary = serve(10, 4*time.Millisecond, 0)
	}
	for _, n := range []int{0, 20, 200} {
		v, err := gate.Replay(gate.Config{}, blocks[:n])
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%v: %s\n", v.Outcome, v.Reason)
	}
	// Output:
	// no-data: the baseline has served no request
	// inconclusive: waiting for evidence on latency: p95 5.9 ms → 5.65 ms, between 6.3 % faster and 0 % slower (pass odds 4 : 1 of 20 : 1)
	// pass: not worse than allowed; weakest is latency: p99 6.02 ms → 5.65 ms, faster by 4.2–8.3 % (pass odds 8 000 : 1)
}

// Absolute objectives hold whatever the baseline does.
func ExampleConfig_slo() {
	cfg := gate.Config{SLO: gate.SLO{Latency: 250 * time.Millisecond, LatencyRatio: 0.01, ErrorRatio: 0.01}}
	both := serve(100, 300*time.Millisecond, 0)
	v, err := gate.Replay(cfg, []gate.Block{{Baseline: both, Canary: both}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(v.Reason)
	// Output:
	// slo-latency: slower than 250 ms 66 % (56–75 %), allowed 1 % (odds 9e+72 : 1)
}

// A measurement that cannot be trusted is no evidence, and no pass.
func ExampleBlock() {
	v, err := gate.Replay(gate.Config{}, []gate.Block{{Fault: "the probe was detached"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%v: %s\n", v.Outcome, v.Reason)
	// Output:
	// invalid: the measurement cannot be trusted: the probe was detached
}
