// Package histogram counts durations in exponential buckets.
//
// A bucket is 2.2 % wide: bucket i, from 1 to Buckets−2, holds the durations in
// (Edge(i−1), Edge(i)] with Edge(i) = 2^(i/32 − 20) seconds. Bucket 0 holds
// everything up to about 1 µs and bucket Buckets−1 everything longer than 64 s.
// These are the buckets of Prometheus native histograms of schema 5 (whose
// number is the index here minus 640) and of OpenTelemetry exponential
// histograms of scale 5, so both exports lose nothing.
//
// Counts only ever grow; the counts of an interval are the difference of two
// readings (Sub). The package knows nothing of where durations come from.
package histogram

import (
	"errors"
	"math"
	"time"
)

// ErrShrunk is returned by Sub when the earlier reading counts more than the
// later one: they are not two readings of the same counters.
var ErrShrunk = errors.New("histogram shrank between two readings")

// Histogram holds one count per bucket. The zero value is empty and ready, and
// a copy is independent. It is not safe for concurrent use.
type Histogram struct {
	counts [Buckets]uint64
}

// Observe counts one duration.
func (h *Histogram) Observe(d time.Duration) { h.counts[Index(d)]++ }

// Add counts n durations in bucket i. It panics when i is no bucket.
func (h *Histogram) Add(i int, n uint64) { h.counts[i] += n }

// At is the count of bucket i, and 0 when i is no bucket.
func (h *Histogram) At(i int) uint64 {
	if i < 0 || i >= Buckets {
		return 0
	}
	return h.counts[i]
}

// Count is the number of all durations.
func (h *Histogram) Count() uint64 { return h.AtOrAbove(-1) }

// AtOrAbove is the number of durations longer than Edge(i), which are those in
// buckets with a higher index than i: everything for −1, nothing from Buckets−1 on.
func (h *Histogram) AtOrAbove(i int) uint64 {
	var n uint64
	for _, c := range h.counts[min(max(i+1, 0), Buckets):] {
		n += c
	}
	return n
}

// QuantileIndex is the bucket of the q-quantile: the first one at which the
// share q of all durations is reached. It is −1 when the histogram is empty.
func (h *Histogram) QuantileIndex(q float64) int {
	n := h.Count()
	if n == 0 {
		return -1
	}
	rank := max(1, uint64(math.Ceil(min(max(q, 0), 1)*float64(n))))
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank {
			return i
		}
	}
	return Buckets - 1
}

// Quantile is the upper edge of the bucket of the q-quantile, at most 2.2 %
// above the real one. It is 0 when the histogram is empty, and 64 s when the
// quantile is longer than 64 s.
func (h *Histogram) Quantile(q float64) time.Duration {
	i := h.QuantileIndex(q)
	if i < 0 {
		return 0
	}
	return Edge(i)
}

// Merge adds the counts of other.
func (h *Histogram) Merge(other *Histogram) {
	for i, c := range other.counts {
		h.counts[i] += c
	}
}

// Sub returns what was counted since the earlier reading prev. It returns
// ErrShrunk when a bucket of prev holds more than the same bucket of h.
func (h *Histogram) Sub(prev *Histogram) (Histogram, error) {
	var d Histogram
	for i, c := range h.counts {
		if c < prev.counts[i] {
			return Histogram{}, ErrShrunk
		}
		d.counts[i] = c - prev.counts[i]
	}
	return d, nil
}

// Equal reports whether both count the same in every bucket.
func (h Histogram) Equal(other Histogram) bool { return h.counts == other.counts }
