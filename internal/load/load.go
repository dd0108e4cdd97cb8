// Package load sends requests to a service at a constant rate and counts what
// comes back.
//
// The rate is open-loop: a request is sent when it is due, however long earlier
// ones take, so that a slow server gets no relief and its slowness shows. The
// generator watches itself as well: what it could not send in time, and pauses of
// its own process, are counted apart from what the server did. Memory does not
// grow with the length of a run. The requests are made by the vegeta library;
// pacing, connections and counting are ours.
package load

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Defaults of Options.
const (
	DefaultTimeout     = 10 * time.Second
	DefaultConnections = 4096
)

// grace is how long requests under way may still take when the run ends or is cancelled.
const grace = 2 * time.Second

// Options says what to send. URLs and Rate are required, the rest may be zero.
type Options struct {
	// URLs are asked in turn; http or https.
	URLs []string
	// Rate is the number of requests a second, in all; fractions are fine.
	Rate float64
	// Duration is how long to send. Zero: until the context is done.
	Duration time.Duration
	// Connections is how many requests may be under way at once. Beyond that none are sent, and those due are
	// counted as Blocked. Zero: DefaultConnections.
	Connections int
	// KeepAlive uses connections again. By default each request has a connection of its own, because a traffic
	// splitter shifts connections, not requests.
	KeepAlive bool
	// Timeout is how long one request may take, connecting included. Zero: DefaultTimeout.
	Timeout time.Duration
	// Method is GET if empty.
	Method string
	// Body and Header are sent with every request.
	Body   []byte
	Header http.Header
	// EachSecond is called with what happened in the last second, one call at a time; the last call may be for less than a
	// second. It may take its time: sending goes on.
	EachSecond func(Stats)
}

// Result is what happened in the whole run.
type Result struct {
	Stats
	// Rate is the rate that was asked for.
	Rate float64 `json:"rate"`
}

// OptionError says which option is wrong and what would be right.
type OptionError struct{ Option, Problem string }

// Error names the option.
func (e *OptionError) Error() string { return fmt.Sprintf("load: %s %s", e.Option, e.Problem) }

// Run sends until the duration is over or the context is done; both are a normal end. Requests then under way get
// two more seconds before they are cut off and counted as Cancelled. When Run returns, all its connections are closed.
// The error is an *OptionError.
func Run(ctx context.Context, o Options) (Result, error) {
	targets, err := o.complete()
	if err != nil {
		return Result{}, err
	}
	hard, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	t := newTally(time.Now())
	tr := newTransport(hard, o, t)
	attacker := vegeta.NewAttacker(
		vegeta.Client(&http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}),
		vegeta.MaxWorkers(uint64(o.Connections)),
		vegeta.MaxBody(0), // read to the end, but not kept
	)
	p := newPacer(ctx, o, t)
	results := attacker.Attack(vegeta.NewStaticTargeter(targets...), p, 0, "")

	counted := make(chan struct{})
	go func() {
		defer close(counted)
		for r := range results {
			t.count(r, hard.Err() != nil)
		}
		p.catchUp(p.ended(), t.total(time.Now()).Sent) // nobody asks the pacer while all connections wait
	}()
	watch, unwatch := context.WithCancel(hard)
	defer unwatch()
	go watchdog(watch, t)
	go finish(ctx, o, p, attacker, counted, cut)
	report(t, o.EachSecond, counted)
	tr.close()
	return Result{Stats: t.total(time.Now()), Rate: o.Rate}, nil
}

// finish ends the sending when the plan or the context is over, and a little later what is still under way.
func finish(ctx context.Context, o Options, p *pacer, attacker *vegeta.Attacker, counted <-chan struct{}, cut func()) {
	var over <-chan time.Time
	if o.Duration > 0 { // the pacer may not be asked any more when all connections wait
		over = time.After(o.Duration + maxLag)
	}
	select {
	case <-ctx.Done():
	case <-p.done:
	case <-over:
	}
	p.end()
	attacker.Stop()
	select {
	case <-counted:
	case <-time.After(grace):
		cut()
	}
}

// report calls each at the end of every second until everything is counted.
func report(t *tally, each func(Stats), counted <-chan struct{}) {
	if each == nil {
		each = func(Stats) {}
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			each(t.second(now))
		case <-counted:
			if s := t.second(time.Now()); s.Due > 0 || s.Answered > 0 || s.Failed > 0 || s.Cancelled > 0 {
				each(s)
			}
			return
		}
	}
}

// complete checks the options and fills in the defaults.
func (o *Options) complete() ([]vegeta.Target, error) {
	switch {
	case len(o.URLs) == 0:
		return nil, &OptionError{"URL", "is missing: name at least one"}
	case math.IsNaN(o.Rate) || o.Rate <= 0 || o.Rate > 1e6:
		return nil, &OptionError{"rate", fmt.Sprintf("is %v: want a number of requests a second above 0, at most 1000000", o.Rate)}
	case o.Duration < 0 || o.Timeout < 0 || o.Connections < 0:
		return nil, &OptionError{"duration, timeout or connections", "is below zero"}
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Connections == 0 {
		o.Connections = DefaultConnections
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	header := o.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "sluice-load")
	}
	var targets []vegeta.Target
	for _, text := range o.URLs {
		if err := checkURL(text); err != nil {
			return nil, &OptionError{"URL", fmt.Sprintf("%q %v (write http://127.0.0.1:8080/)", text, err)}
		}
		target := vegeta.Target{Method: o.Method, URL: text, Body: o.Body, Header: header}
		if _, err := target.Request(); err != nil {
			return nil, &OptionError{"method", fmt.Sprintf("%q is none", o.Method)}
		}
		targets = append(targets, target)
	}
	return targets, nil
}

func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return errors.New("is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return errors.New("has no scheme http or https")
	case u.Host == "":
		return errors.New("has no host")
	}
	return nil
}
