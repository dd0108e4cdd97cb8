package load

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// maxErrors is how many different error texts are kept; the rest are counted under otherErrors.
const (
	maxErrors   = 8
	otherErrors = "other errors"
)

// Stats is what happened in one second or in the whole run. Requests are counted when they are sent and again when
// they end, which may be in another second.
type Stats struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	// Due is how many requests the plan holds for this time: Sent, Late and Blocked together.
	Due uint64 `json:"due"`
	// Sent is how many were sent.
	Sent uint64 `json:"sent"`
	// Late is how many were given up because the generator had fallen behind: a weakness of this process or machine.
	Late uint64 `json:"late"`
	// Blocked is how many were given up because Options.Connections were waiting for answers: the server's doing.
	Blocked uint64 `json:"blocked"`
	// Answered is how many got a whole answer, whatever its status.
	Answered uint64 `json:"answered"`
	// Classes splits Answered by status: Classes[2] is 2xx.
	Classes [6]uint64 `json:"classes"`
	// Failed is how many got none: refused, reset, cut short, timed out.
	Failed uint64 `json:"failed"`
	// Cancelled is how many were still under way when the run was cut off; they are neither good nor bad.
	Cancelled uint64 `json:"cancelled"`
	// Retried is how many were sent again by the HTTP client after a kept connection was found closed; these are
	// not failures, but would be for a client that does not repeat.
	Retried uint64 `json:"retried"`
	// Errors are the texts behind Failed, the first few different ones, without port numbers of this side.
	Errors []Failure `json:"errors,omitempty"`
	// Latency is that of the answered requests, from sending to the last byte, connecting included.
	Latency Latency `json:"latency"`
	// Lag is the longest time by which sending was behind its plan, Stall the longest pause of this process.
	Lag   time.Duration `json:"lag_ns"`
	Stall time.Duration `json:"stall_ns"`
}

// Failure is one way in which requests failed.
type Failure struct {
	Text  string    `json:"text"`
	Count uint64    `json:"count"`
	First time.Time `json:"first"` // when the first such request was sent
}

// Latency summarizes durations; quantiles are good to about one percent of rank at the tails.
type Latency struct {
	Mean time.Duration `json:"mean_ns"`
	P50  time.Duration `json:"p50_ns"`
	P90  time.Duration `json:"p90_ns"`
	P99  time.Duration `json:"p99_ns"`
	Max  time.Duration `json:"max_ns"`
}

// Bad is how many requests a client would complain about: failed, or answered with 5xx.
func (s Stats) Bad() uint64 { return s.Failed + s.Classes[5] }

// Trouble says in what way the generator itself did not keep its plan, so that the server is not blamed for it; ""
// if it did. The latencies of such a time are not to be trusted.
func (s Stats) Trouble() string {
	const much = 100 * time.Millisecond
	switch {
	case s.Late > 0:
		return fmt.Sprintf("%d of %d requests were not sent: this machine is too busy for the rate", s.Late, s.Due)
	case s.Stall > much:
		return fmt.Sprintf("this process stood still for %v", s.Stall.Round(time.Millisecond))
	case s.Lag > much && s.Blocked == 0:
		return fmt.Sprintf("requests were sent up to %v late", s.Lag.Round(time.Millisecond))
	}
	return ""
}

// MarshalJSON adds "trouble" and "bad" to the fields.
func (s Stats) MarshalJSON() ([]byte, error) {
	type plain Stats
	return json.Marshal(struct {
		plain
		Bad     uint64 `json:"bad"`
		Trouble string `json:"trouble,omitempty"`
	}{plain(s), s.Bad(), s.Trouble()})
}

// MarshalJSON adds the rate to the statistics.
func (r Result) MarshalJSON() ([]byte, error) {
	type plain Stats
	return json.Marshal(struct {
		Rate float64 `json:"rate"`
		plain
		Bad     uint64 `json:"bad"`
		Trouble string `json:"trouble,omitempty"`
	}{r.Rate, plain(r.Stats), r.Bad(), r.Trouble()})
}

// tally counts for the current second and for the whole run.
type tally struct {
	now, most atomic.Int64 // requests under way, and their peak since the last look

	mu        sync.Mutex
	last, all window
}

type window struct {
	Stats
	latency vegeta.LatencyMetrics
}

func newTally(start time.Time) *tally {
	t := &tally{}
	t.last.Start, t.all.Start = start, start
	return t
}

// both applies a change to the current second and to the whole run.
func (t *tally) both(change func(*window)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.last)
	change(&t.all)
}

func (t *tally) retried()                { t.both(func(w *window) { w.Retried++ }) }
func (t *tally) lagged(d time.Duration)  { t.both(func(w *window) { w.Lag = max(w.Lag, d) }) }
func (t *tally) stalled(d time.Duration) { t.both(func(w *window) { w.Stall = max(w.Stall, d) }) }

func (t *tally) sent() {
	for now := t.now.Add(1); ; {
		if most := t.most.Load(); now <= most || t.most.CompareAndSwap(most, now) {
			break
		}
	}
	t.both(func(w *window) { w.Due, w.Sent = w.Due+1, w.Sent+1 })
}

// peak returns the most requests that were under way since it was called last.
func (t *tally) peak() int64 { return t.most.Swap(t.now.Load()) }

// skip counts requests that were due and not sent.
func (t *tally) skip(n uint64, blocked bool) {
	t.both(func(w *window) {
		w.Due += n
		if blocked {
			w.Blocked += n
		} else {
			w.Late += n
		}
	})
}

// count counts one request that ended; after the cut, failing is what was asked for.
func (t *tally) count(r *vegeta.Result, cut bool) {
	t.now.Add(-1)
	t.both(func(w *window) {
		switch {
		case r.Code > 0:
			w.Answered++
			w.Classes[min(int(r.Code)/100, 5)]++
			w.latency.Add(r.Latency)
		case cut:
			w.Cancelled++
		default:
			w.Failed++
			w.fail(plainError(r.Error), r.Timestamp)
		}
	})
}

func (w *window) fail(text string, at time.Time) {
	for i := range w.Errors {
		if w.Errors[i].Text == text || i == maxErrors-1 {
			w.Errors[i].Count++
			return
		}
	}
	if len(w.Errors) == maxErrors-1 {
		text = otherErrors
	}
	w.Errors = append(w.Errors, Failure{Text: text, Count: 1, First: at})
}

// second returns what happened since the last call.
func (t *tally) second(now time.Time) Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.last.summary(now)
	t.last = window{}
	t.last.Start = now
	return s
}

func (t *tally) total(now time.Time) Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.all.summary(now)
}

func (w *window) summary(now time.Time) Stats {
	s := w.Stats
	s.End = now
	s.Errors = append([]Failure(nil), w.Errors...)
	if s.Answered > 0 {
		q := w.latency.Quantile
		s.Latency = Latency{Mean: w.latency.Total / time.Duration(s.Answered), P50: q(0.50), P90: q(0.90), P99: q(0.99), Max: w.latency.Max}
	}
	return s
}

var (
	ownPort   = regexp.MustCompile(`[0-9a-fA-F.:%\[\]]+:[0-9]+->`)
	urlPrefix = regexp.MustCompile(`^[A-Z][a-z]+ "[^"]*": `)
)

// plainError removes from an error text what differs from request to request: method, URL and own port.
func plainError(text string) string {
	return strings.TrimSpace(ownPort.ReplaceAllString(urlPrefix.ReplaceAllString(text, ""), ""))
}
