package gate

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// ladder holds n durations, evenly spaced from low to high.
func ladder(n int, low, high time.Duration) *histogram.Histogram {
	var h histogram.Histogram
	for i := range n {
		h.Observe(low + time.Duration(i)*(high-low)/time.Duration(n))
	}
	return &h
}

func TestEffectsAreWordedForAPerson(t *testing.T) {
	const ms = time.Millisecond
	var none histogram.Histogram
	for name, tt := range map[string]struct{ got, want string }{
		"slower": {
			quantileText(0.5, ladder(9000, 2*ms, 6*ms), ladder(1000, 4*ms, 12*ms)),
			"p50 4.08 ms → 8.16 ms, slower by 87–111 %",
		},
		"faster": {
			quantileText(0.5, ladder(9000, 4*ms, 12*ms), ladder(1000, 2*ms, 6*ms)),
			"p50 8.16 ms → 4.08 ms, faster by 47–53 %",
		},
		"about equal": {
			quantileText(0.9, ladder(9000, 2*ms, 6*ms), ladder(1000, 2*ms, 6*ms)),
			"p90 5.65 ms → 5.65 ms, between 4.2 % faster and 4.4 % slower",
		},
		"a quantile with a fraction and few requests": {
			quantileText(0.999, ladder(9000, 2*ms, 6*ms), ladder(10, 2*ms, 6*ms)),
			"p99.9 6.02 ms → 5.65 ms, too few requests to say by how much",
		},
		"one side without requests": {quantileText(0.5, &none, ladder(10, ms, 2*ms)), "p50 not measured on both sides"},
		"more errors":               {shareText(10, 9000, 50, 1000), "failed 0.11 % → 5 %, more by 3.7–6.4 points"},
		"fewer errors":              {shareText(500, 9000, 1, 1000), "failed 5.6 % → 0.1 %, fewer by 4.8–6 points"},
		"no errors":                 {shareText(0, 9000, 0, 1000), "failed 0 % → 0 %, between 0.043 points fewer and 0.38 more"},
		"errors on one side only":   {shareText(0, 0, 1, 1), "not measured on both sides"},
		"objective":                 {objectiveText("failed", 21, 1000, 0.01), "failed 2.1 % (1.4–3.2 %), allowed 1 %"},
		"objective without data":    {objectiveText("failed", 0, 0, 0.01), "not measured"},
		"nanoseconds":               {durationText(953), "953 ns"},
		"microseconds":              {durationText(1500), "1.5 µs"},
		"rounding up to the unit":   {durationText(999_700 * time.Microsecond), "1 s"},
		"a minute":                  {durationText(time.Minute), "60 s"},
		"large odds":                {oddsText(4812), "4 812 : 1"},
		"odds beyond words":         {oddsText(3e47), "3e+47 : 1"},
		"odds below one":            {oddsText(0.25), "0.25 : 1"},
		"odds against everything":   {oddsText(1e-40), "below 0.001 : 1"},
		"groups of three":           {grouped(1234567), "1 234 567"},
		"one group":                 {grouped(123), "123"},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", name, tt.got, tt.want)
		}
	}
}

func TestTheEffectIsThatSinceTheCanaryWentBad(t *testing.T) {
	g, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	var v Verdict
	for i := range 300 {
		median := 4 * time.Millisecond
		if i >= 260 {
			median = median * 3 / 2
		}
		var b Block
		b.Baseline.Latency = *ladder(90, 2*time.Millisecond, 6*time.Millisecond)
		b.Canary.Latency = *ladder(10, median/2, median*3/2)
		if v = g.Observe(b); v.Outcome == Fail {
			break
		}
	}
	want := "p75 5.07 ms → 7.32 ms, slower by"
	if text := v.Checks[0].Text; v.Outcome != Fail || !strings.HasPrefix(text, want) || !strings.HasSuffix(text, fmt.Sprintf("(last %d blocks)", v.Blocks-260)) {
		t.Errorf("%v after %d blocks: %s; want %s… (last %d blocks)", v.Outcome, v.Blocks, text, want, v.Blocks-260)
	}
}

func TestTheLineOfACheckFitsItsOutcome(t *testing.T) {
	c := Check{
		Name: "latency", Outcome: Fail, FailOdds: 4812, PassOdds: 0.5, Text: "p99 212 ms → 304 ms, slower by 31–55 %",
		Baseline: Summary{Requests: 18230}, Canary: Summary{Requests: 1911},
	}
	if got, want := c.String(), "latency  fail  p99 212 ms → 304 ms, slower by 31–55 %  odds 4 812 : 1  n 18 230 / 1 911"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	c.Outcome = Inconclusive
	if got, want := c.String(), "latency  inconclusive  p99 212 ms → 304 ms, slower by 31–55 %  pass odds 0.5 : 1  n 18 230 / 1 911"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
