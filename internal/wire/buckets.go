package wire

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// appendBuckets appends a histogram as counts from bucket 0 on, where a 0 is
// followed by the number of empty buckets that it stands for.
func appendBuckets(dst []byte, h *histogram.Histogram) []byte {
	var empty uint64
	for i := range histogram.Buckets {
		n := h.At(i)
		if n == 0 {
			empty++
			continue
		}
		if empty > 0 {
			dst = protowire.AppendVarint(append(dst, 0), empty)
			empty = 0
		}
		dst = protowire.AppendVarint(dst, n)
	}
	return dst
}

// bucket is a count of a histogram.
type bucket struct {
	index int
	n     uint64
}

// readBuckets appends the buckets that are not empty to dst. It returns what is
// wrong with them, "" if nothing is.
//
// A merge of many nodes spends its time here, so numbers of one and two bytes,
// which most counts are, are read without a call.
func readBuckets(dst []bucket, p []byte) ([]bucket, string) {
	var total uint64
	for i := 0; len(p) > 0; {
		n, size := uint64(p[0]), 1
		switch {
		case n < 0x80:
		case len(p) > 1 && p[1] < 0x80:
			n, size = n&0x7f|uint64(p[1])<<7, 2
		default:
			if n, size = protowire.ConsumeVarint(p); size < 0 {
				return dst, "a number is cut off or longer than 64 bits"
			}
		}
		p = p[size:]
		if n == 0 {
			skip, size := protowire.ConsumeVarint(p)
			if size < 0 || skip == 0 || skip > uint64(histogram.Buckets-i) {
				return dst, "a 0 is not followed by a number of empty buckets"
			}
			p, i = p[size:], i+int(skip)
			continue
		}
		if i >= histogram.Buckets {
			return dst, "it has more than 834 buckets"
		}
		if total += n; total < n {
			return dst, "its counts exceed 64 bits"
		}
		dst = append(dst, bucket{i, n})
		i++
	}
	return dst, ""
}

// subBuckets takes the buckets prev away from now, both in ascending order, and
// leaves in now those that are not empty. It reports false when prev has more.
func subBuckets(now, prev []bucket) ([]bucket, bool) {
	kept := now[:0]
	for _, b := range now {
		if len(prev) > 0 && prev[0].index <= b.index {
			if prev[0].index < b.index || prev[0].n > b.n {
				return kept, false
			}
			b.n -= prev[0].n
			prev = prev[1:]
		}
		if b.n > 0 {
			kept = append(kept, b)
		}
	}
	return kept, len(prev) == 0
}
