package source

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/wire"
)

// lostShare: so many requests may have one among them that the probe lost. A
// single one must not end a rollout, since a client can see to it.
const lostShare = 200

// lostFault says that a probe lost too many requests beside those it measured;
// empty if it did not.
func lostFault(lost, measured uint64) string {
	if lost*lostShare > measured {
		return fmt.Sprintf("the probe lost %d requests", lost)
	}
	return ""
}

// faults collects why a block cannot be trusted.
type faults struct {
	mismatch bool // one of them is that something else was loaded
	list     []string
}

func (f *faults) add(why string) {
	if why != "" {
		f.list = append(f.list, why)
	}
}

// found adds that something else is in the kernel than was signed: what a reader
// has to know first.
func (f *faults) found(why string) {
	f.mismatch = true
	f.list = slices.Insert(f.list, 0, why)
}

// String is all of it, if it is not too much.
func (f *faults) String() string {
	const most = 3
	if more := len(f.list) - most; more > 0 {
		return fmt.Sprintf("%s; and %d more", strings.Join(f.list[:most], "; "), more)
	}
	return strings.Join(f.list, "; ")
}

// stillAfter is how long a probe may tell the same reading: it tells one for
// 100 ms to all who ask, and one that does it for longer counts nothing.
const stillAfter = 500 * time.Millisecond

// check looks at what a node says of itself. Of a first reading, which is not a
// difference, mismatches are those of the past.
func (f *faults) check(n *node, s *wire.Status, want string) {
	if got := string(s.Loaded.Digest); want != "" && got != want {
		f.found(fmt.Sprintf("node %s: the probe's object is %.19s, expected %.19s", n.name, orNone(got), want))
	}
	switch {
	case s.Mismatch != "":
		f.found(fmt.Sprintf("node %s: %s", n.name, s.Mismatch))
	case s.Mismatches > 0 && n.prev != nil:
		f.found(fmt.Sprintf("node %s: the kernel held something else than what was verified %d times", n.name, s.Mismatches))
	}
	if s.Budget.Exceeded() {
		f.add(fmt.Sprintf("node %s: the probe takes %.1f %% of a core, more than its %.1f %%", n.name, 100*s.Budget.Share, 100*s.Budget.Limit))
	}
	if n.prev != nil && s.At.Equal(n.at) && n.asked.Sub(n.before) > stillAfter {
		f.add(fmt.Sprintf("node %s: nobody reads the probe's counters any more, the last time was %s", n.name, s.At.UTC().Format(time.RFC3339)))
	}
}

func orNone(s string) string {
	if s == "" {
		return "not known"
	}
	return s
}

// coverage is how much of what came was measured, over the last blocks. One that
// was missed must not end a rollout, since a client can see to it.
type coverage struct{ blocks []share }

type share struct{ measured, missed uint64 }

const (
	coverageBlocks = 10
	fewMissed      = 5 // so many say nothing yet
)

// add takes a block. Connections that speak TLS or something unknown are not
// among those missed: on a node others may speak what they like.
func (c *coverage) add(measured uint64, l lost) string {
	c.blocks = append(c.blocks, share{measured, l.requests + l.desynced + l.older})
	c.blocks = c.blocks[max(0, len(c.blocks)-coverageBlocks):]
	var all share
	for _, b := range c.blocks {
		all.measured += b.measured
		all.missed += b.missed
	}
	if all.missed <= fewMissed {
		return ""
	}
	if got := float64(all.measured) / float64(all.measured+all.missed); got < leastCoverage {
		return fmt.Sprintf("only %.1f %% of the requests could be measured in the last %d blocks (%d were missed), fewer than %.0f %%",
			100*got, len(c.blocks), all.missed, 100*leastCoverage)
	}
	return ""
}

// leastCoverage is the share that has to be measured.
const leastCoverage = 0.9

// lost is what the probes of all nodes saw and could not measure in a block.
type lost struct{ requests, desynced, older uint64 }

func (l *lost) add(s *wire.Status) {
	l.requests += s.Loss.Requests
	l.desynced += s.Loss.Desynced
	l.older += s.Loss.Older
}
