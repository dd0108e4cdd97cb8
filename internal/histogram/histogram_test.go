package histogram_test

import (
	"errors"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// within reports whether d nanoseconds ≤ 2^(i/32−20) s, by d³² ≤ 10²⁸⁸ · 2^(i−640),
// which needs no root and so shares nothing with the code under test.
func within(d uint64, i int) bool {
	left := new(big.Int).Exp(new(big.Int).SetUint64(d), big.NewInt(32), nil)
	right := new(big.Int).Exp(big.NewInt(10), big.NewInt(288), nil)
	left.Lsh(left, 640)
	right.Lsh(right, uint(i))
	return left.Cmp(right) <= 0
}

func TestEveryEdgeIsTheLargestNanosecondWithinIt(t *testing.T) {
	edges := histogram.EdgesNanos()
	if len(edges) != histogram.Buckets-1 {
		t.Fatalf("%d edges, want %d", len(edges), histogram.Buckets-1)
	}
	for i, e := range edges {
		if !within(e, i) || within(e+1, i) {
			t.Errorf("edge %d = %d ns is not the floor of the exact edge", i, e)
		}
		if i > 0 && e <= edges[i-1] {
			t.Errorf("edge %d = %d ns does not ascend", i, e)
		}
		if got := histogram.Index(time.Duration(e)); got != i {
			t.Errorf("Index(%d ns) = %d, want %d", e, got, i)
		}
		if got := histogram.Index(time.Duration(e + 1)); got != i+1 {
			t.Errorf("Index(%d ns) = %d, want %d", e+1, got, i+1)
		}
		if got := histogram.EdgeSeconds(i); math.Abs(got*1e9-float64(e)) > 1+got*1e-4 {
			t.Errorf("EdgeSeconds(%d) = %g, far from %d ns", i, got, e)
		}
	}
}

func TestWellKnownEdges(t *testing.T) {
	for name, tt := range map[string]struct {
		got, want time.Duration
	}{
		"the first edge is 2^-20 s":            {histogram.Edge(0), 953},
		"an index below the first is clamped":  {histogram.Edge(-3), 953},
		"index 640 ends at one second":         {histogram.Edge(640), time.Second},
		"the last edge is 64 s":                {histogram.Edge(histogram.Buckets - 2), 64 * time.Second},
		"the open bucket is clamped to 64 s":   {histogram.Edge(histogram.Buckets - 1), 64 * time.Second},
		"half an octave is the root of two":    {histogram.Edge(656), 1414213562},
		"EdgeSeconds is exact at whole powers": {time.Duration(histogram.EdgeSeconds(672) * 1e9), 2 * time.Second},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", name, tt.got, tt.want)
		}
	}
	if !math.IsInf(histogram.EdgeSeconds(histogram.Buckets-1), 1) {
		t.Error("the last bucket has no upper edge")
	}
	if histogram.Index(-time.Second) != 0 || histogram.Index(math.MaxInt64) != histogram.Buckets-1 {
		t.Error("durations out of range do not end in the outermost buckets")
	}
}

func TestCountingAndQuantiles(t *testing.T) {
	var h histogram.Histogram
	if h.Quantile(0.5) != 0 || h.QuantileIndex(0.5) != -1 || h.Count() != 0 {
		t.Error("an empty histogram has a quantile")
	}
	for i := range 100 {
		h.Observe(time.Duration(i+1) * time.Millisecond)
	}
	h.Observe(time.Hour)
	for name, tt := range map[string]struct{ got, want any }{
		"everything is counted":               {h.Count(), uint64(101)},
		"at or above counts higher buckets":   {h.AtOrAbove(histogram.Index(50 * time.Millisecond)), uint64(51)},
		"above the last edge is one":          {h.AtOrAbove(histogram.Buckets - 2), uint64(1)},
		"nothing is above the open bucket":    {h.AtOrAbove(histogram.Buckets - 1), uint64(0)},
		"the median is the bucket of 51 ms":   {h.Quantile(0.5), histogram.Edge(histogram.Index(51 * time.Millisecond))},
		"the zero quantile is the smallest":   {h.QuantileIndex(0), histogram.Index(time.Millisecond)},
		"the highest quantile is capped":      {h.Quantile(1), 64 * time.Second},
		"a bucket that does not exist is 0":   {h.At(-1) + h.At(histogram.Buckets), uint64(0)},
		"a single bucket has its own count":   {h.At(histogram.Index(time.Millisecond)), uint64(1)},
		"a quantile above one is the maximum": {h.QuantileIndex(3), histogram.Buckets - 1},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSubAndMergeAreInverse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var before, delta histogram.Histogram
	for range 1000 {
		before.Add(r.IntN(histogram.Buckets), r.Uint64N(9))
		delta.Add(r.IntN(histogram.Buckets), r.Uint64N(9))
	}
	after := before
	after.Merge(&delta)
	got, err := after.Sub(&before)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(delta, got); diff != "" {
		t.Errorf("after − before (-want +got):\n%s", diff)
	}
	after.Add(3, 1)
	if _, err := before.Sub(&after); !errors.Is(err, histogram.ErrShrunk) {
		t.Errorf("a shrunk histogram gives %v", err)
	}
}

func BenchmarkIndex(b *testing.B) {
	histogram.Index(0)
	for i := 0; b.Loop(); i++ {
		histogram.Index(time.Duration(i) * 997)
	}
}
