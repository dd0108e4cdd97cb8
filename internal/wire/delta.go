package wire

import (
	"fmt"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// ResetError means that two readings are not of the same counters: the probe
// was started anew between them, or they are in the wrong order. What was
// counted in between is not known.
type ResetError struct {
	Node string
	What string // what tells it
}

func (e *ResetError) Error() string {
	return fmt.Sprintf("the counters of node %q are not those of the reading before: %s", e.Node, e.What)
}

// sameRun compares the Starts of two readings.
func sameRun(prev, now *Status) error {
	switch {
	case prev.Start.Boot != now.Start.Boot:
		return &ResetError{now.Node, "the machine was started anew"}
	case !prev.Start.Loaded.Equal(now.Start.Loaded):
		return &ResetError{now.Node, "the probe was started anew"}
	case prev.Node != now.Node:
		return &ResetError{now.Node, fmt.Sprintf("that one is of node %q", prev.Node)}
	case now.At.Before(prev.At):
		return &ResetError{now.Node, "that one is the later one"}
	}
	return nil
}

// Delta returns what was counted between two readings of a node: workloads,
// loss, mismatches, swaps and cost are differences, everything else is that of now. First
// and FirstError stay absolute, and InFlight means nothing any more. A workload
// that is gone is left out. The error is a *ResetError.
func Delta(prev, now *Status) (Status, error) {
	if err := sameRun(prev, now); err != nil {
		return Status{}, err
	}
	d := *now
	d.Workloads = make(map[probe.Workload]probe.Counts, len(now.Workloads))
	for w, c := range now.Workloads {
		before := prev.Workloads[w]
		between, ok := subCounts(&c, &before)
		if !ok {
			return Status{}, (&wrong{what: shrunk}).of(0, now.Node, w)
		}
		d.Workloads[w] = between
	}
	if !subTotals(&d, prev) {
		return Status{}, &ResetError{now.Node, "a counter of the whole node shrank"}
	}
	return d, nil
}

func subCounts(now, prev *probe.Counts) (between probe.Counts, ok bool) {
	t, before := tallyOf(now), tallyOf(prev)
	if !t.sub(&before) {
		return between, false
	}
	t.addTo(&between)
	var err error
	if between.Latency, err = now.Latency.Sub(&prev.Latency); err != nil {
		return between, false
	}
	between.Complete, err = now.Complete.Sub(&prev.Complete)
	return between, err == nil
}

// subTotals takes what an earlier reading had counted of the whole node from d.
func subTotals(d, prev *Status) bool {
	// Mismatches, swaps and cost are counted by the daemon, and may begin anew
	// with another one over the same counters.
	ok := true
	sub := func(n *uint64, before uint64) {
		ok = ok && before <= *n
		*n -= before
	}
	if prev.Mismatches <= d.Mismatches {
		d.Mismatches -= prev.Mismatches
	}
	if prev.Swaps <= d.Swaps {
		d.Swaps -= prev.Swaps
	}
	if prev.Cost.Runs <= d.Cost.Runs && prev.Cost.Time <= d.Cost.Time {
		d.Cost.Runs -= prev.Cost.Runs
		d.Cost.Time -= prev.Cost.Time
	}
	sub(&d.Loss.Requests, prev.Loss.Requests)
	sub(&d.Loss.Unmeasured, prev.Loss.Unmeasured)
	sub(&d.Loss.Desynced, prev.Loss.Desynced)
	sub(&d.Loss.Older, prev.Loss.Older)
	sub(&d.Loss.Exemplars, prev.Loss.Exemplars)
	return ok
}
