package verdict

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
)

// Line is one look of the gate in one line for a person, without the time.
func Line(l canary.Look) string {
	state := l.Outcome.String()
	if l.Warmup {
		state = "warming up"
	}
	if l.Waiting {
		state += fmt.Sprintf(", waiting for what step %d takes", l.Step+1)
	}
	if l.Held != "" {
		state += ", counts for nothing: " + l.Held
	}
	return fmt.Sprintf("canary %3.0f %%  stable %5d req p50 %-8s  canary %5d req p50 %-8s %3d errors  odds against %s, for %s  %s%s",
		float64(l.Weight)/canary.Full*100,
		l.Baseline.Requests, millis(l.Baseline.Latency.Quantile(0.5)),
		l.Canary.Requests, millis(l.Canary.Latency.Quantile(0.5)), l.Canary.Errors, oddsText(l.Odds), oddsText(l.PassOdds), state, unseen(l))
}

// unseen says why a canary may get nothing while the stable version is busy.
func unseen(l canary.Look) string {
	if l.Canary.Requests > 0 || l.Baseline.Requests == 0 || l.Warmup {
		return ""
	}
	return " (no request came to the canary: clients that keep their connections stay where they are)"
}

func millis(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}

// oddsText writes odds as people say them: 4 812 : 1.
func oddsText(odds float64) string {
	switch {
	case odds < 0.1:
		return "< 0.1 : 1"
	case odds < 10:
		return fmt.Sprintf("%.1f : 1", odds)
	case odds < 1e6:
		return groups(fmt.Sprintf("%.0f", odds)) + " : 1"
	}
	return fmt.Sprintf("%.0e : 1", odds)
}

func groups(digits string) string {
	var parts []string
	for len(digits) > 3 {
		parts = append([]string{digits[len(digits)-3:]}, parts...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, parts...), " ")
}
