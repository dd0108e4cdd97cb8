package report

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	thin  = "\u202f" // a thin space that does not break, between a number and its unit
	minus = "\u2212"
)

// duration writes d with three digits and a unit: 4.12 ms.
func duration(d time.Duration) string {
	ns := math.Abs(float64(d))
	switch {
	case d == 0:
		return "0"
	case ns < 999.5e3:
		return digits(float64(d)/1e3) + thin + "µs"
	case ns < 999.5e6:
		return digits(float64(d)/1e6) + thin + "ms"
	case ns < 120e9:
		return digits(float64(d)/1e9) + thin + "s"
	}
	return span(d)
}

// span writes a longer time: 3 min 20 s.
func span(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	h, m, s := s/3600, s/60%60, s%60
	var parts []string
	for _, p := range []struct {
		n    int64
		unit string
	}{{h, "h"}, {m, "min"}, {s, "s"}} {
		if p.n != 0 {
			parts = append(parts, strconv.FormatInt(p.n, 10)+thin+p.unit)
		}
	}
	if len(parts) == 0 {
		return "0" + thin + "s"
	}
	return strings.Join(parts, " ")
}

// digits writes three significant digits, without an exponent or needless zeros.
func digits(v float64) string {
	decimals := 0
	switch a := math.Abs(v); {
	case a == 0:
	case a < 9.995:
		decimals = 2
	case a < 99.95:
		decimals = 1
	}
	s := strconv.FormatFloat(v, 'f', decimals, 64)
	if strings.Contains(s, ".") {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return strings.Replace(s, "-", minus, 1)
}

// count groups thousands by a thin space: 18 230.
func count(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + thin + s[i:]
	}
	return s
}

// percent writes a share of 1.
func percent(share float64) string { return digits(100*share) + thin + "%" }

// ratio writes part of all as a share; "–" without any.
func ratio(part, all uint64) string {
	if all == 0 {
		return "–"
	}
	return percent(float64(part) / float64(all))
}

// odds writes how many to one; powers of ten beyond a million.
func odds(v float64) string {
	switch {
	case math.IsNaN(v) || v < 0:
		return "–"
	case v >= 1e300:
		return "> " + power(300) + " : 1"
	case v >= 1e6:
		return power(int(math.Floor(math.Log10(v)))) + " : 1"
	case v >= 100:
		return count(uint64(math.Round(v))) + " : 1"
	case v >= 0.01:
		return digits(v) + " : 1"
	}
	return "< 0.01 : 1"
}

var superscript = strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴", "5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹")

// power writes ten to the n.
func power(n int) string {
	switch n {
	case 0:
		return "1"
	case 1, 2, 3:
		return strconv.Itoa(int(math.Pow10(n)))
	}
	return "10" + superscript.Replace(strconv.Itoa(n))
}

// clock is the time of day in UTC; offset the time since start, always signed.
func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

func offset(start, t time.Time) string {
	d := t.Sub(start)
	sign := "+"
	if d < 0 {
		sign, d = minus, -d
	}
	if d = d.Round(100 * time.Millisecond); d >= time.Minute {
		return fmt.Sprintf("%s%d:%04.1f", sign, d/time.Minute, (d % time.Minute).Seconds())
	}
	return fmt.Sprintf("%s%.1f%ss", sign, d.Seconds(), thin)
}

var looseNumber = regexp.MustCompile(`(\d) (%|ms\b|µs|ns\b|s\b|: \d|\d{3}\b)`)

// tight keeps the numbers of a text and their units on one line.
func tight(text string) string { return looseNumber.ReplaceAllString(text, "$1"+thin+"$2") }
