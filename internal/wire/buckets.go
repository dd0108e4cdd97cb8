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

// reading is a histogram as counts by bucket, of which left are not zero.
type reading struct {
	counts [histogram.Buckets]uint64
	left   int
}

// set makes an empty reading one of these buckets.
func (r *reading) set(list []bucket) {
	for _, b := range list {
		r.counts[b.index] = b.n
	}
	r.left = len(list)
}

// clear makes it empty again.
func (r *reading) clear() {
	if r.left > 0 {
		*r = reading{}
	}
}

// What readBuckets finds wrong.
const (
	cutOff   = "a number is cut off or longer than 64 bits"
	badGap   = "a 0 is not followed by a number of empty buckets"
	tooMany  = "it has more than 834 buckets"
	tooLarge = "its counts exceed 64 bits"
	shrunk   = "a bucket shrank" // not wrong by itself, but not a later reading
)

// readBuckets appends the buckets to dst in which a histogram has more than an
// earlier reading, and how many more; the reading is empty afterwards. It
// returns what is wrong, "" if nothing is.
//
// A merge of many nodes spends its time here, so numbers of one and two bytes,
// which most counts are, are read without a call.
func readBuckets(dst []bucket, p []byte, before *reading) ([]bucket, string) {
	var total uint64
	for i, at := 0, 0; at < len(p); i++ {
		n := uint64(p[at])
		switch {
		case n < 0x80:
			at++
		case at+1 < len(p) && p[at+1] < 0x80:
			n = n&0x7f | uint64(p[at+1])<<7
			at += 2
		default:
			var size int
			if n, size = protowire.ConsumeVarint(p[at:]); size < 0 {
				return dst, cutOff
			}
			at += size
		}
		if n == 0 {
			skip, size := protowire.ConsumeVarint(p[at:])
			if size < 0 || skip == 0 || skip > uint64(histogram.Buckets-i) {
				return dst, badGap
			}
			at, i = at+size, i+int(skip)-1
			continue
		}
		if i >= histogram.Buckets {
			return dst, tooMany
		}
		if total += n; total < n {
			return dst, tooLarge
		}
		if old := before.counts[i]; old > 0 {
			if old > n {
				return dst, shrunk
			}
			n, before.counts[i], before.left = n-old, 0, before.left-1
		}
		if n > 0 {
			dst = append(dst, bucket{i, n})
		}
	}
	if before.left > 0 {
		return dst, shrunk
	}
	return dst, ""
}
