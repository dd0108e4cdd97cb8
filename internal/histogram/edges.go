package histogram

import (
	"math"
	"math/big"
	"sync"
	"time"
)

// Buckets is the number of buckets of a Histogram.
const Buckets = 834

// octave is the number of buckets in a doubling of the duration, and first the
// number of buckets below one second: index first ends at exactly 1 s.
const (
	octave = 32
	first  = 20 * octave
)

// last is the highest index with an upper edge.
const last = Buckets - 2

// edges are the upper edges in nanoseconds. They are worked out at first use,
// because most commands never need them.
var edges = sync.OnceValue(func() *[Buckets - 1]uint64 {
	var e [Buckets - 1]uint64
	for i := range e {
		e[i] = edgeNanos(i)
	}
	return &e
})

// edgeNanos is floor(10⁹ · 2^(i/32 − 20)), from integers alone: the 32nd root
// of (10⁹)³² · 2^(i−640) is five square roots, and a floor taken at every root
// is the floor of the exact root.
func edgeNanos(i int) uint64 {
	x := new(big.Int).Exp(big.NewInt(int64(time.Second)), big.NewInt(octave), nil)
	if i >= first {
		x.Lsh(x, uint(i-first))
	} else {
		x.Rsh(x, uint(first-i))
	}
	for range 5 {
		x.Sqrt(x)
	}
	return x.Uint64()
}

// Edge is the upper edge of bucket i, rounded down to a nanosecond: a duration
// d belongs to bucket i or a lower one exactly if d ≤ Edge(i). The index is
// clamped to 0 … Buckets−2, since the last bucket has no upper edge.
func Edge(i int) time.Duration {
	return time.Duration(edges()[min(max(i, 0), last)])
}

// EdgeSeconds is the upper edge of bucket i in seconds, 2^(i/32 − 20), and +Inf
// for the last bucket: the le label of a Prometheus classic histogram.
func EdgeSeconds(i int) float64 {
	if i > last {
		return math.Inf(1)
	}
	return math.Exp2(float64(max(i, 0)-first) / octave)
}

// EdgesNanos returns the Buckets−1 upper edges in nanoseconds, ascending. The
// kernel's table is generated from it, so both agree on every duration.
func EdgesNanos() []uint64 {
	e := *edges()
	return e[:]
}

// Index is the bucket of d. What is zero or negative belongs to bucket 0, what
// is longer than 64 s to bucket Buckets−1.
func Index(d time.Duration) int {
	if d < 0 {
		return 0
	}
	e := edges()
	low, high := 0, len(e)
	for low < high {
		mid := (low + high) / 2
		if uint64(d) <= e[mid] {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}
