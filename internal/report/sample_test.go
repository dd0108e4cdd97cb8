package report

import (
	"math"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

var start = time.Date(2025, 3, 1, 12, 0, 0, 250_000_000, time.UTC)

// scenario is a rollout to simulate: lognormal latencies with a median of 4 ms
// and a thin tail, at a constant rate.
type scenario struct {
	version  string
	seconds  int
	rate     float64 // requests per second of both arms
	slower   float64 // factor on the canary's latencies
	errors   float64 // share of the canary's requests
	alone    bool    // there is no baseline
	silent   bool    // the canary answers nothing
	faultAt  int     // second from which the measurement cannot be trusted; 0 never
	result   release.Outcome
	trigger  release.Trigger
	breaches bool
}

var scenarios = map[string]scenario{
	"healthy":      {version: "v1.1.0", seconds: 120, rate: 400, slower: 1, result: release.Promoted},
	"slow":         {version: "v1.2.0", seconds: 64, rate: 200, slower: 2, result: release.RolledBack, trigger: release.SLO, breaches: true},
	"errors":       {version: "v1.3.0", seconds: 64, rate: 200, slower: 1, errors: .05, result: release.RolledBack, trigger: release.SLO, breaches: true},
	"invalid":      {version: "v1.4.0", seconds: 64, rate: 200, slower: 1, faultAt: 14, result: release.RolledBack, trigger: release.HashMismatch},
	"no data":      {version: "v1.5.0", seconds: 60, rate: 200, slower: 1, silent: true, result: release.RolledBack},
	"no baseline":  {version: "v1.0.0", seconds: 30, rate: 200, slower: 1, alone: true, result: release.Promoted},
	"inconclusive": {version: "v1.6.0", seconds: 240, rate: 8, slower: 1.3, result: release.RolledBack},
	"half an hour": {version: "v1.7.0", seconds: 1800, rate: 100, slower: 1.05, result: release.Promoted},
}

const fault = "program probe_egress in the kernel is not the signed one: tag 3b185187f1855c4c, want a04f5eef06a7f555"

func (s scenario) data() Data {
	random := rand.New(rand.NewPCG(7, uint64(s.seconds)))
	id := "sha256:" + strings.Repeat("4f2a9c03b71de865", 4)
	d := Data{Record: release.Record{
		Rollout: release.Rollout{
			ID: 3, Name: "shop", Version: s.version, Digest: id, Image: id, Object: id, Env: "local", Commit: strings.Repeat("9f3c", 10),
			Previous: "v1.0.9", Started: start,
		},
		Result: release.Result{Outcome: s.result, Trigger: s.trigger},
		Hash:   strings.Repeat("77aa", 16),
	}}
	if s.alone {
		d.Record.Previous = ""
	}
	g, err := gate.New(gate.Config{})
	if err != nil {
		panic(err)
	}
	at := start.Add(2 * time.Second)
	for i := range s.seconds {
		share := s.weight(&d, i, at)
		b := gate.Block{Start: at, End: at.Add(time.Second)}
		if !s.silent {
			s.serve(random, &b.Canary, s.rate*share, s.slower, s.errors)
		}
		if !s.alone {
			s.serve(random, &b.Baseline, s.rate*(1-share), 1, 0)
		}
		if s.faultAt > 0 && i >= s.faultAt {
			b.Fault = fault
		}
		at = b.End
		d.Blocks = append(d.Blocks, b)
		d.Record.Requests.Stable += b.Baseline.Requests
		d.Record.Requests.Canary += b.Canary.Requests
		if s.alone {
			continue // there is nothing to ask a gate
		}
		d.Verdict = g.Observe(b)
		d.Record.Verdict = d.Verdict.Outcome.String()
		d.Evidence = append(d.Evidence, PointOf(at, d.Verdict))
		if d.Verdict.Outcome == gate.Fail || d.Verdict.Outcome == gate.Invalid || d.Verdict.Outcome == gate.Pass && share == .5 && s.seconds < 1000 {
			break
		}
	}
	s.end(&d, at)
	return d
}

// weight raises the canary's share a few times.
func (s scenario) weight(d *Data, i int, at time.Time) float64 {
	steps := []float64{.1, .25, .5}
	if s.alone {
		steps = []float64{1}
	}
	every := max(12, s.seconds/len(steps))
	share := steps[min(i/every, len(steps)-1)]
	if i%every == 0 && i/every < len(steps) {
		d.Weights = append(d.Weights, Weight{at, share})
	}
	return share
}

func (s scenario) serve(random *rand.Rand, arm *gate.Arm, rate, factor, failing float64) {
	n := int(rate) // and one more now and then
	if random.Float64() < rate-float64(n) {
		n++
	}
	for range n {
		ms := 4 * factor * math.Exp(.6*random.NormFloat64())
		if random.Float64() < .003 {
			ms *= 10
		}
		arm.Latency.Observe(time.Duration(ms * 1e6))
		arm.Requests++
		if random.Float64() < failing {
			arm.Errors++
		}
	}
}

func (s scenario) end(d *Data, at time.Time) {
	t := release.Timeline{Verdict: at, Traffic: at.Add(3 * time.Millisecond)}
	if s.breaches {
		t.Breach, t.Evidence = start.Add(3130*time.Millisecond), start.Add(4*time.Second)
		ms := t.Traffic.Sub(t.Breach).Milliseconds()
		d.Record.BreachToTrafficMS = &ms
	}
	d.Record.Timeline, d.Record.Ended = t, at.Add(1200*time.Millisecond)
	final := 1.0
	if s.result == release.RolledBack {
		final = 0
	}
	d.Weights = append(d.Weights, Weight{t.Traffic, final})
	d.Events = []Event{{start.Add(400 * time.Millisecond), s.version + " listens on 127.0.0.1:43117, process 4711"}, {at.Add(time.Second), "connections of the losing side drained"}}
	file := func(p string) release.File {
		return release.File{Path: p, SHA256: strings.Repeat("ab12", 16), SizeBytes: 8 << 20}
	}
	object := file("bpf/probe.bpf.o")
	d.Release = &release.Release{
		Name: "shop", Version: s.version, Object: &object,
		Artifacts: []release.Artifact{{Platform: "linux/amd64", File: file("bin/linux_amd64/shop")}, {Platform: "linux/arm64", File: file("bin/linux_arm64/shop")}},
		SBOMs:     []release.File{file("sbom/linux_amd64.cdx.json"), file("sbom/probe.spdx.json")},
	}
	d.Signed = []Signature{{"image", d.Record.Image, "out/keys/cosign.pub"}, {"eBPF object", d.Record.Object, "out/keys/cosign.pub"}}
	d.Programs = []Program{{"probe_ingress", "a04f5eef06a7f555", "cgroup_inet_ingress", 812}, {"probe_egress", "3b185187f1855c4c", "cgroup_inet_egress", 813}, {"probe_sockops", "90ab0a1cde56ff12", "cgroup_sock_ops", 814}}
	d.Recorded = "out/rollouts/0003-" + s.version + "/samples.jsonl"
	d.Command = "sluice gate --out out --version " + s.version
}
