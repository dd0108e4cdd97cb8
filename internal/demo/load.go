package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/load"
)

// clients asks the front address all the time, on a new connection for each
// request, and counts what comes back.
type clients struct {
	cancel context.CancelFunc
	done   chan struct{}
	result load.Result
	err    error
}

// startLoad begins to ask once there is a version that answers.
func (d *demo) startLoad(ctx context.Context) error {
	if d.clients != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &clients{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.result, c.err = load.Run(ctx, load.Options{URLs: []string{"http://" + d.front + "/work"}, Rate: float64(d.rate), Timeout: 5 * time.Second})
	}()
	d.clients = c
	fmt.Printf("  >> from here on %d requests a second to %s\n", d.rate, d.front)
	return nil
}

// stop ends the load and waits for the answers that are due.
func (c *clients) stop() {
	if c != nil {
		c.cancel()
		<-c.done
	}
}

// judge prints what happened and says whether it is what had to happen.
func (d *demo) judge() error {
	d.clients.stop()
	d.chapter("what happened")
	fmt.Printf("  %-8s %-52s %-12s %-13s %-14s %10s %16s\n", "VERSION", "", "OUTCOME", "VERDICT", "TRIGGER", "TOOK", "BREACH→TRAFFIC")
	var problems []error
	for _, r := range d.results {
		moved := "–"
		if r.record.BreachToTrafficMS != nil {
			moved = fmt.Sprintf("%.1f s", float64(*r.record.BreachToTrafficMS)/1000)
		}
		fmt.Printf("  %-8s %-52s %-12s %-13s %-14s %8.1f s %16s\n",
			r.version, short(r.title, 52), r.record.Outcome, dash(r.record.Verdict), dash(string(r.record.Trigger)), r.took.Seconds(), moved)
		if got := (ending{r.record.Outcome, r.record.Trigger}); got != r.want {
			problems = append(problems, fmt.Errorf("%s ended %s (%s), it had to end %s (%s)", r.version, got.outcome, got.trigger, r.want.outcome, r.want.trigger))
		}
	}
	return errors.Join(append(problems, d.clients.judge(d))...)
}

// judge checks that no request failed because of Sluice: every request got an
// answer, and every 5xx came from a canary with that fault.
func (c *clients) judge(d *demo) error {
	if c.err != nil {
		return c.err
	}
	r := c.result
	fmt.Printf("\n  clients: %d requests sent, %d answered, %d with 5xx, %d without an answer; p50 %v, p99 %v\n",
		r.Sent, r.Answered, r.Classes[5], r.Failed, r.Latency.P50.Round(100*time.Microsecond), r.Latency.P99.Round(100*time.Microsecond))
	if t := r.Trouble(); t != "" {
		fmt.Printf("  (the load generator itself: %s)\n", t)
	}
	fmt.Printf("  took %v; left in %s: releases, oci, rollouts/*/report.html, ledger.jsonl\n", time.Since(d.begin).Round(time.Second), d.out)
	if r.Failed == 0 {
		return nil
	}
	var texts []string
	for _, f := range r.Errors {
		texts = append(texts, fmt.Sprintf("%d times %s, first at %s", f.Count, f.Text, f.First.Format(time.TimeOnly)))
	}
	return fmt.Errorf("%d requests got no answer: %s", r.Failed, strings.Join(texts, "; "))
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func short(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most-1] + "…"
}
