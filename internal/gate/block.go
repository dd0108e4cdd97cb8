package gate

import (
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// Arm is what one side served during a block.
type Arm struct {
	// Requests that ended: answered, or cut off before an answer.
	Requests uint64 `json:"requests"`
	// Errors among them: status 5xx, or the connection closed with the request
	// pending.
	Errors uint64 `json:"errors"`
	// Latency of the answered requests.
	Latency histogram.Histogram `json:"latency"`
}

// ended is the number of requests, and at least the number of failed and of
// timed ones: counters of one snapshot are not read at the same instant.
func (a *Arm) ended() uint64 {
	return max(a.Requests, a.Errors, a.Latency.Count())
}

func (a *Arm) merge(b *Arm) {
	a.Requests += b.Requests
	a.Errors += b.Errors
	a.Latency.Merge(&b.Latency)
}

// Block is what both sides served during one interval, a second by default.
// Blocks follow one another without overlap. A block without canary requests
// is welcome: it tells how the baseline behaves.
type Block struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	Baseline Arm       `json:"baseline"`
	Canary   Arm       `json:"canary"`
	// Fault says why the measurement cannot be trusted: events lost, a probe
	// detached, a kernel program that is not the signed one. Empty if it can be.
	Fault string `json:"fault,omitempty"`
}

// totals is what both sides served during several blocks.
type totals struct {
	blocks           int
	baseline, canary Arm
}

func (t *totals) add(b *Block) {
	t.blocks++
	t.baseline.merge(&b.Baseline)
	t.canary.merge(&b.Canary)
}

// window remembers the last 60 to 120 blocks: what a person is shown, because
// a canary that went bad after an hour would not stand out in the whole.
type window struct{ older, newer totals }

const windowBlocks = 60

func (w *window) add(b *Block) {
	if w.newer.blocks == windowBlocks {
		w.older, w.newer = w.newer, totals{}
	}
	w.newer.add(b)
}

func (w *window) totals() totals {
	t := w.older
	t.blocks += w.newer.blocks
	t.baseline.merge(&w.newer.baseline)
	t.canary.merge(&w.newer.canary)
	return t
}
