package load

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func TestPaceKeepsThePlan(t *testing.T) {
	tally := newTally(time.Now())
	p := newPacer(t.Context(), Options{Rate: 100, Duration: 2 * time.Second, Connections: 10}, tally)
	steps := []struct {
		sentence string
		elapsed  time.Duration
		sent     uint64
		stop     bool
		late     uint64
	}{
		{"the first request is due at once", 0, 0, false, 0},
		{"a short delay is caught up with", 30 * time.Millisecond, 1, false, 0},
		{"a quarter of a second too", 260 * time.Millisecond, 2, false, 0},
		{"what is due longer is given up", 1030 * time.Millisecond, 3, false, 100},
		{"and the plan goes on from there", 1040 * time.Millisecond, 4, false, 100},
		{"the end of the plan is the end, whatever was missed", 3 * time.Second, 5, true, 195},
	}
	for _, s := range steps {
		wait, stop := p.Pace(s.elapsed, s.sent)
		if !stop {
			tally.sent()
		}
		if got := tally.total(time.Now()); wait != 0 || stop != s.stop || got.Late != s.late || got.Blocked != 0 {
			t.Errorf("%s: wait %v, stop %v, late %d, blocked %d; want stop %v, late %d", s.sentence, wait, stop, got.Late, got.Blocked, s.stop, s.late)
		}
	}
	if got := tally.total(time.Now()); got.Due != 200 || !strings.Contains(got.Trouble(), "195 of 200 requests were not sent") {
		t.Errorf("due %d, trouble %q", got.Due, got.Trouble())
	}
}

func TestWaitingForAnswersIsNotTheGeneratorsFault(t *testing.T) {
	tally := newTally(time.Now())
	p := newPacer(t.Context(), Options{Rate: 100, Connections: 2}, tally)
	tally.sent()
	tally.sent()
	p.Pace(time.Second, 2)
	if got := tally.total(time.Now()); got.Blocked != 98 || got.Late != 0 || got.Trouble() != "" {
		t.Errorf("got %+v, trouble %q", got, got.Trouble())
	}
}

func TestPaceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	p := newPacer(ctx, Options{Rate: 0.001}, newTally(time.Now()))
	if _, stop := p.Pace(0, 0); stop {
		t.Error("ended before the first request")
	}
	start := time.Now()
	if _, stop := p.Pace(0, 1); !stop || time.Since(start) > time.Minute {
		t.Errorf("stop %v after %v", stop, time.Since(start))
	}
	if p.limit != math.MaxUint64 || p.Rate(0) != 0.001 {
		t.Errorf("limit %d, rate %v", p.limit, p.Rate(0))
	}
}

func TestTrouble(t *testing.T) {
	for name, tt := range map[string]struct {
		s    Stats
		want string
	}{
		"a good second":             {Stats{Due: 10, Sent: 10, Lag: 90 * time.Millisecond, Stall: 50 * time.Millisecond}, ""},
		"a pause of the process":    {Stats{Due: 10, Sent: 10, Stall: 150 * time.Millisecond}, "this process stood still for 150ms"},
		"requests sent late":        {Stats{Due: 10, Sent: 10, Lag: 200 * time.Millisecond}, "requests were sent up to 200ms late"},
		"late because of answers":   {Stats{Due: 10, Sent: 10, Blocked: 1, Lag: 200 * time.Millisecond}, ""},
		"requests that were missed": {Stats{Due: 10, Sent: 8, Late: 2, Stall: time.Second}, "2 of 10 requests were not sent: this machine is too busy for the rate"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := tt.s.Trouble(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorTextsAreFewAndPlain(t *testing.T) {
	var w window
	for i := range 100 {
		w.fail(fmt.Sprintf("error %d", i%20), time.Now())
	}
	if len(w.Errors) != maxErrors || w.Errors[maxErrors-1].Text != otherErrors {
		t.Fatalf("got %d texts: %+v", len(w.Errors), w.Errors)
	}
	total := uint64(0)
	for _, e := range w.Errors {
		total += e.Count
	}
	if total != 100 {
		t.Errorf("%d of 100 failures are left", total)
	}
	for text, want := range map[string]string{
		`Get "http://127.0.0.1:80/?a=b": dial tcp 127.0.0.1:80: connect: connection refused`:      "dial tcp 127.0.0.1:80: connect: connection refused",
		`Post "http://[::1]:80/": read tcp [::1]:33333->[::1]:80: read: connection reset by peer`: "read tcp [::1]:80: read: connection reset by peer",
		`read tcp 10.0.0.1:40000->10.0.0.2:80: i/o timeout`:                                       "read tcp 10.0.0.2:80: i/o timeout",
		`Get "http://x/": EOF`: "EOF",
	} {
		if got := plainError(text); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestTheWatchdogSeesNoPauseWhereThereIsNone(t *testing.T) {
	tally := newTally(time.Now())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	watchdog(ctx, tally)
	if got := tally.total(time.Now()).Stall; got > 10*time.Second || got < 0 {
		t.Errorf("stall %v", got)
	}
}
