package gate

import (
	"fmt"
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

// maxRequests of one side in one block is more than a machine can serve: a
// counter that went backwards shows as a number beyond it.
const maxRequests = 1_000_000_000

// fault says why the block cannot be trusted, "" if it can.
func (b *Block) fault() string {
	if n := max(b.Baseline.ended(), b.Canary.ended()); b.Fault == "" && n > maxRequests {
		return fmt.Sprintf("a block counts %d requests", n)
	}
	return b.Fault
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

// onset remembers what was served since the canary seems to have gone bad: what
// a person is shown, because a canary that went bad after an hour would not
// stand out in the whole. The sum of the evidence starts again whenever it
// falls to zero (Page, Continuous inspection schemes, 1954).
type onset struct {
	sum   float64
	since totals
}

// add takes a block and the evidence in it.
func (o *onset) add(l float64, b *Block) {
	o.sum = max(0, o.sum+l)
	if o.sum == 0 {
		o.since = totals{}
		return
	}
	o.since.add(b)
}

// show words an effect: that since the onset when there is evidence against the
// canary, and otherwise that of everything.
func (o *onset) show(failLog float64, all *totals, text func(*totals) string) string {
	if failLog <= 0 || o.since.blocks == 0 || o.since.blocks == all.blocks {
		return text(all)
	}
	return fmt.Sprintf("%s (last %d blocks)", text(&o.since), o.since.blocks)
}
