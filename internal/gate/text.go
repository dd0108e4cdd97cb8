package gate

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// normal95 is the 97.5 % quantile of the normal distribution.
const normal95 = 1.959964

// quantileText compares a quantile of both sides: "p50 4.1 ms → 8.3 ms, slower
// by 92–110 %". The interval joins the order-statistic interval of either side
// on the log scale (MOVER: Zou & Donner, Construction of confidence limits about
// effect measures, 2008), and is one bucket wider.
func quantileText(q float64, baseline, canary *histogram.Histogram) string {
	b, bLow, bHigh, bOK := quantileInterval(baseline, q)
	c, cLow, cHigh, cOK := quantileInterval(canary, q)
	name := "p" + strconv.FormatFloat(100*q, 'g', 6, 64)
	if b < 0 || c < 0 {
		return name + " not measured on both sides"
	}
	text := fmt.Sprintf("%s %s → %s", name, durationText(histogram.Edge(int(b))), durationText(histogram.Edge(int(c))))
	if !bOK || !cOK {
		return text + ", too few requests to say by how much"
	}
	low := c - b - math.Hypot(c-cLow, bHigh-b) - 1
	high := c - b + math.Hypot(cHigh-c, b-bLow) + 1
	percent := func(buckets float64) float64 { return 100 * math.Abs(math.Exp2(buckets/32)-1) }
	switch {
	case low > 0:
		return fmt.Sprintf("%s, slower by %s–%s %%", text, number(percent(low)), number(percent(high)))
	case high < 0:
		return fmt.Sprintf("%s, faster by %s–%s %%", text, number(percent(high)), number(percent(low)))
	default:
		return fmt.Sprintf("%s, between %s %% faster and %s %% slower", text, number(percent(low)), number(percent(high)))
	}
}

// quantileInterval is the bucket of a quantile and those between which it lies
// with 95 % confidence; ok is false when the interval is open. Without any
// request the bucket is −1.
func quantileInterval(h *histogram.Histogram, q float64) (at, low, high float64, ok bool) {
	n := float64(h.Count())
	half := normal95 * math.Sqrt(n*q*(1-q))
	from, to := n*q-half, n*q+half+1
	bucket := func(rank float64) float64 { return float64(h.QuantileIndex(rank / n)) }
	if n == 0 {
		return -1, -1, -1, false
	}
	return bucket(n * q), bucket(from), bucket(to), from >= 1 && to <= n
}

// bounded reports whether there are enough durations for an interval of q.
func bounded(h *histogram.Histogram, q float64) bool {
	_, _, _, ok := quantileInterval(h, q)
	return ok
}

// shareText compares two shares of failed requests: "0.11 % → 5.2 %, more by
// 4.6–5.7 points". The interval is Newcombe's (Interval estimation for the
// difference between independent proportions, 1998, method 10).
func shareText(kb, nb, kc, nc uint64) string {
	if nb == 0 || nc == 0 {
		return "not measured on both sides"
	}
	b, bLow, bHigh := wilson(kb, nb)
	c, cLow, cHigh := wilson(kc, nc)
	low := 100 * (c - b - math.Hypot(c-cLow, bHigh-b))
	high := 100 * (c - b + math.Hypot(cHigh-c, b-bLow))
	text := fmt.Sprintf("failed %s %% → %s %%", number(100*b), number(100*c))
	switch {
	case low > 0:
		return fmt.Sprintf("%s, more by %s–%s points", text, number(low), number(high))
	case high < 0:
		return fmt.Sprintf("%s, fewer by %s–%s points", text, number(-high), number(-low))
	default:
		return fmt.Sprintf("%s, between %s points fewer and %s more", text, number(max(0, -low)), number(max(0, high)))
	}
}

// objectiveText is "failed 2.1 % (1.6–2.7 %), allowed 1 %".
func objectiveText(what string, bad, n uint64, allowed float64) string {
	if n == 0 {
		return "not measured"
	}
	p, low, high := wilson(bad, n)
	return fmt.Sprintf("%s %s %% (%s–%s %%), allowed %s %%", what,
		number(100*p), number(100*low), number(100*high), number(100*allowed))
}

// wilson is a share and its 95 % interval (Wilson 1927).
func wilson(k, n uint64) (share, low, high float64) {
	const z2 = normal95 * normal95
	size := float64(n)
	share = float64(k) / size
	centre := share + z2/(2*size)
	half := normal95 * math.Sqrt(share*(1-share)/size+z2/(4*size*size))
	return share, max(0, (centre-half)/(1+z2/size)), min(1, (centre+half)/(1+z2/size))
}

// durationText is a duration to three digits with a unit: "4.07 ms".
func durationText(d time.Duration) string {
	for _, u := range []struct {
		name string
		size time.Duration
	}{{"s", time.Second}, {"ms", time.Millisecond}, {"µs", time.Microsecond}} {
		if v := float64(d) / float64(u.size); v >= 0.9995 {
			return strconv.FormatFloat(v, 'g', 3, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + " ns"
}

// number is a value to two digits, whole above 10: "0.11", "5.2", "110".
func number(v float64) string {
	if math.Abs(v) < 5e-5 {
		return "0"
	}
	if math.Abs(v) >= 9.95 {
		return grouped(uint64(math.Round(math.Abs(v))))
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}

// oddsText is "4 812 : 1".
func oddsText(odds float64) string {
	switch {
	case odds >= 1e9:
		return fmt.Sprintf("%.0e : 1", odds)
	case odds < 0.001:
		return "below 0.001 : 1"
	}
	return number(odds) + " : 1"
}

// grouped writes digits in groups of three: "18 230".
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	out := make([]byte, 0, len(digits)+len(digits)/3)
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out = append(out, ' ')
		}
		out = append(out, digits[i])
	}
	return string(out)
}
