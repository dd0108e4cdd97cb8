package config

import "time"

// Deploy says where and how a new version is rolled out.
type Deploy struct {
	// Where the service runs. "local": on this machine, stable and canary side by side, the traffic split by the kernel. "kubernetes": in a cluster under Argo CD, the canary as a phase of the sync.
	Target string `json:"target" default:"local" enum:"local,kubernetes"`
	// Settings of the target local.
	Local Local `json:"local,omitzero" optional:"unless target=local"`
	// Settings of the target kubernetes.
	Kubernetes Kubernetes `json:"kubernetes,omitzero" optional:"unless target=kubernetes"`
	// The Argo CD application of the target kubernetes, and what becomes of git when a release fails.
	ArgoCD ArgoCD `json:"argocd,omitzero" optional:"true"`
	// How traffic moves to the new version.
	Canary Canary `json:"canary"`
	// How sure the verdict must be, and what counts as worse.
	Gate Gate `json:"gate"`
}

// Local holds the settings of the target local.
type Local struct {
	// Address and port at which clients reach the service, whichever version answers. ":8080" is every address of this machine.
	Listen Address `json:"listen" required:"127.0.0.1:8080"`
	// How long open connections of the version that gives way may live on.
	Drain Duration `json:"drain" default:"10s" min:"0s" max:"1h"`
}

// Canary is the rollout: what share of new connections the new version gets, and for how long.
type Canary struct {
	// Steps in order, by rising weight. After the last one the new version is promoted. Left out: 10% and 50%, 5s each.
	Steps []Step `json:"steps"`
	// How long the new version runs on first traffic before anything is judged.
	Warmup Duration `json:"warmup" default:"2s" min:"0s" max:"1h"`
	// How long the whole rollout may take. Without a verdict by then it is rolled back.
	Deadline Duration `json:"deadline" default:"5m" min:"1s" max:"168h"`
	// Time between two looks of the gate.
	Block Duration `json:"block" default:"1s" min:"100ms" max:"1m"`
}

// Step is one step of the rollout.
type Step struct {
	// Share of new connections that the new version gets, for example 10%.
	Weight Ratio `json:"weight" required:"10%" min:"0.01%" max:"100%"`
	// The shortest time on this step; the gate may take longer.
	Min Duration `json:"min" default:"5s" min:"0s" max:"24h"`
}

// Gate holds the parameters of the statistical decision.
type Gate struct {
	// Largest probability that a release as good as the stable one is ever failed in the whole rollout.
	Alpha Ratio `json:"alpha" default:"1%" min:"0.0001%" max:"50%"`
	// Largest probability that a release as bad as odds_ratio is passed.
	Beta Ratio `json:"beta" default:"5%" min:"0.0001%" max:"50%"`
	// How much slower is still called equal: noise of the machine, not of the release.
	Tolerance Ratio `json:"tolerance" default:"15%" min:"1%" max:"1000%"`
	// How much slower may be overlooked in what a pass shows. Without any, a few per cent between two equal processes keep a release with uniform latencies from passing.
	PassTolerance Ratio `json:"pass_tolerance" default:"10%" min:"0%" max:"1000%"`
	// How bad a release must not be to pass: the odds of a slow or failed request, new against stable.
	OddsRatio float64 `json:"odds_ratio" default:"2" min:"1.05" max:"100"`
	// Objectives that hold whatever the stable version does. Left out: none.
	SLO SLO `json:"slo,omitzero" optional:"true"`
}

// SLO holds absolute objectives. Zero means none.
type SLO struct {
	// Requests slower than a threshold.
	Latency LatencySLO `json:"latency,omitzero" optional:"true"`
	// Share of requests that may fail, for example 1%. Left out: no objective.
	Errors Ratio `json:"errors,omitzero" min:"0.0001%" max:"50%" slip:": it is the share that may fail"`
}

// LatencySLO allows a share of requests to be slower than a threshold.
type LatencySLO struct {
	// The duration that is still good, for example 250ms.
	Threshold Duration `json:"threshold" required:"250ms" min:"1us" max:"1m"`
	// Share of requests that may be slower than the threshold: 1% for "99% within the threshold".
	Ratio Ratio `json:"ratio" default:"1%" min:"0.0001%" max:"50%" slip:": it is the share that may be slower"`
}

// DefaultSteps returns the steps of a rollout whose file names none.
func DefaultSteps() []Step {
	const hold = Duration(5 * time.Second)
	return []Step{{Weight: 0.10, Min: hold}, {Weight: 0.50, Min: hold}}
}
