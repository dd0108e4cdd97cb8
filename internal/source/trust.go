package source

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/wire"
)

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
