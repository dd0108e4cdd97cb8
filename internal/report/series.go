package report

import (
	"math"
	"time"

	"github.com/sluice-cd/sluice/internal/gate"
)

// Bins bound the size of the file: no chart has more points on a curve.
const (
	maxBins = 120
	minBins = 12
	perBin  = 50 // requests of the thinner arm that a quantile should rest on, where the time allows it
)

// bin is a run of blocks, added up.
type bin struct {
	Start, End time.Time
	Arms       [2]gate.Arm // stable, canary
	Fault      string
}

func (b *bin) seconds() float64 { return b.End.Sub(b.Start).Seconds() }

const (
	stable = iota
	canary
)

// bins adds up every size blocks.
func bins(blocks []gate.Block, size int) []bin {
	var out []bin
	for i := range blocks {
		b := &blocks[i]
		if i%size == 0 {
			out = append(out, bin{Start: b.Start})
		}
		last := &out[len(out)-1]
		last.End = b.End
		add(&last.Arms[stable], &b.Baseline)
		add(&last.Arms[canary], &b.Canary)
		if last.Fault == "" {
			last.Fault = b.Fault
		}
	}
	return out
}

func add(to, from *gate.Arm) {
	to.Requests += from.Requests
	to.Errors += from.Errors
	to.Latency.Merge(&from.Latency)
}

// total adds up all blocks.
func total(blocks []gate.Block) bin {
	if len(blocks) == 0 {
		return bin{}
	}
	return bins(blocks, len(blocks))[0]
}

// coarse is how many blocks make a bin so that at most maxBins are drawn.
func coarse(blocks int) int { return max(1, (blocks+maxBins-1)/maxBins) }

// forQuantiles is how many blocks make a bin of the latency charts: enough
// requests of the thinner arm, but never fewer than minBins bins.
func forQuantiles(blocks []gate.Block) int {
	size := coarse(len(blocks))
	var active, thin uint64
	for i := range blocks {
		n := blocks[i].Canary.Requests
		if b := blocks[i].Baseline.Requests; n == 0 || b > 0 && b < n {
			n = b
		}
		if n > 0 {
			active, thin = active+1, thin+n
		}
	}
	if thin == 0 {
		return size
	}
	want := int(math.Ceil(perBin * float64(active) / float64(thin)))
	return max(size, min(want, len(blocks)/minBins))
}
