package histogram

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// MarshalJSON writes the buckets that are not empty as [[index,count],…], in
// ascending order.
func (h Histogram) MarshalJSON() ([]byte, error) {
	out := []byte{'['}
	for i, c := range h.counts {
		if c == 0 {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, '[')
		out = strconv.AppendInt(out, int64(i), 10)
		out = append(out, ',')
		out = strconv.AppendUint(out, c, 10)
		out = append(out, ']')
	}
	return append(out, ']'), nil
}

// UnmarshalJSON replaces the histogram by what MarshalJSON wrote. Indices must
// be buckets in ascending order, counts positive, and their sum must fit in 64
// bits; otherwise the histogram is left as it was.
func (h *Histogram) UnmarshalJSON(data []byte) error {
	var pairs [][]uint64
	if err := json.Unmarshal(data, &pairs); err != nil {
		return fmt.Errorf("reading histogram: %w", err)
	}
	var read Histogram
	var total uint64
	next := uint64(0)
	for _, p := range pairs {
		if len(p) != 2 {
			return fmt.Errorf("reading histogram: want pairs of index and count, got %d numbers", len(p))
		}
		i, c := p[0], p[1]
		switch {
		case i >= Buckets:
			return fmt.Errorf("reading histogram: no bucket %d (0 to %d)", i, Buckets-1)
		case i < next:
			return fmt.Errorf("reading histogram: bucket %d out of order", i)
		case c == 0:
			return fmt.Errorf("reading histogram: bucket %d is empty", i)
		case total+c < total:
			return fmt.Errorf("reading histogram: counts exceed 64 bits at bucket %d", i)
		}
		read.counts[i], total, next = c, total+c, i+1
	}
	*h = read
	return nil
}
