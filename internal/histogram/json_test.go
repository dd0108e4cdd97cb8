package histogram_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

func ExampleHistogram() {
	var before, after histogram.Histogram
	before.Observe(4 * time.Millisecond)
	after = before
	after.Observe(5 * time.Millisecond)
	after.Observe(90 * time.Millisecond)

	delta, _ := after.Sub(&before)
	out, _ := json.Marshal(delta)
	fmt.Println(delta.Count(), delta.Quantile(0.5), string(out))
	// Output: 2 5.065779ms [[396,1],[529,1]]
}

func TestJSONIsRefusedWithTheReason(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"no array":                        {`{"1":2}`, "cannot unmarshal"},
		"a triple instead of a pair":      {`[[1,2,3]]`, "got 3 numbers"},
		"an index beyond the last":        {`[[834,1]]`, "no bucket 834"},
		"a negative index":                {`[[-1,1]]`, "cannot unmarshal"},
		"an index twice":                  {`[[5,1],[5,1]]`, "bucket 5 out of order"},
		"an empty bucket":                 {`[[5,0]]`, "bucket 5 is empty"},
		"counts that do not fit":          {`[[5,18446744073709551615],[6,1]]`, "exceed 64 bits"},
		"a count that is no whole number": {`[[5,1.5]]`, "cannot unmarshal"},
	} {
		h := histogram.Histogram{}
		h.Add(7, 7)
		err := json.Unmarshal([]byte(tt.in), &h)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tt.want)
		}
		if h.Count() != 7 || h.At(7) != 7 {
			t.Errorf("%s: the histogram was changed", name)
		}
	}
}

func FuzzHistogramJSON(f *testing.F) {
	for _, seed := range []string{`[]`, `null`, `[[0,1],[833,18446744073709551614]]`, `[[5,1],[4,1]]`, `[[1]]`, `{}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var h, again histogram.Histogram
		if json.Unmarshal(data, &h) != nil {
			return
		}
		out, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &again); err != nil || !again.Equal(h) {
			t.Fatalf("%s does not survive a round trip: %v", out, err)
		}
	})
}
