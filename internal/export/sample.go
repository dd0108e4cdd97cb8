package export

import (
	"math"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// Where our buckets are in both exponential forms. Prometheus numbers a bucket
// by its upper end, bucket k of schema 5 being (2^((k−1)/32), 2^(k/32)];
// OpenTelemetry by its lower end. Our bucket i ends at 2^(i/32 − 20) s. Bucket 0
// is the zero bucket of both. The last bucket, which is open, becomes the one
// above 64 s: it is the only one that says less than it should.
const (
	schema          = 5
	nativeOffset    = -640             // schema 5: k = i + nativeOffset
	otelOffset      = nativeOffset - 1 // scale 5: k = i + otelOffset
	octave          = 32               // buckets
	firstClassic    = 7 * octave       // 2^-13 s = 122 µs
	lastClassic     = histogram.Buckets - 2
	longest         = histogram.Buckets - 1
	zeroThreshold   = 1.0 / (1 << 20)
	classicOverflow = 64.0 // seconds, what a duration in the open bucket is taken for
)

// sample is a histogram to be exported.
type sample struct {
	*histogram.Histogram
	sum float64 // seconds
}

// native are the counts by number of schema 5, and those of the zero bucket.
func (s sample) native() (buckets map[int]int64, zero uint64) {
	buckets = map[int]int64{}
	for i := 1; i < histogram.Buckets; i++ {
		if n := s.At(i); n > 0 {
			buckets[i+nativeOffset] = int64(n)
		}
	}
	return buckets, s.At(0)
}

// otel are the counts of scale 5 from the first bucket that is not empty to the
// last one, and the number of that first bucket.
func (s sample) otel() (offset int32, counts []uint64) {
	for i := 1; i < histogram.Buckets; i++ {
		n := s.At(i)
		if counts == nil && n == 0 {
			continue
		}
		if counts == nil {
			offset = int32(i + otelOffset)
		}
		counts = append(counts, n)
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	return offset, counts
}

// classic are the cumulative counts at whole octaves, from 122 µs to 64 s.
func (s sample) classic() map[float64]uint64 {
	buckets := map[float64]uint64{}
	var sum uint64
	for i := range longest {
		sum += s.At(i)
		if i >= firstClassic && i%octave == 0 {
			buckets[histogram.EdgeSeconds(i)] = sum
		}
	}
	return buckets
}

// estimate is the sum of a histogram whose durations nobody summed up, within
// 1.1 % as long as all are below 64 s: each is taken for the geometric mean of
// its bucket's ends.
func estimate(h *histogram.Histogram) float64 {
	sum := 0.0
	for i := range longest {
		if n := h.At(i); n > 0 {
			sum += float64(n) * histogram.EdgeSeconds(i)
		}
	}
	return sum*math.Exp2(-0.5/octave) + float64(h.At(longest))*classicOverflow
}
