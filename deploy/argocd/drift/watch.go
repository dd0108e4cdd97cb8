package drift

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Change is a difference that has appeared, or one that is gone.
type Change struct {
	At     time.Time  `json:"at"`
	Mended bool       `json:"mended"`
	What   Difference `json:"difference"` // as it was seen last
	// Of one that was mended: since when it was seen, and since the look before
	// that, where it was not there yet. The repair took something between.
	Took   time.Duration `json:"took_nanos,omitempty"`
	AtMost time.Duration `json:"at_most_nanos,omitempty"`
}

// Watch follows the differences of a service over many looks. The zero value is
// ready.
type Watch struct {
	open   map[key]episode
	before time.Time // of the last look
	sum    Summary
	took   []time.Duration
}

// key is what makes two differences the same one, however far it goes.
type key struct {
	kind        Kind
	view, where string
}

type episode struct {
	Difference
	since, before time.Time
}

// Summary is what a watch has seen in all. Unknowns count apart.
type Summary struct {
	Looks   int           `json:"looks"`
	Begin   time.Time     `json:"begin"`
	End     time.Time     `json:"end"`
	Drifts  int           `json:"drifts"`
	Mended  int           `json:"mended"`
	Unknown int           `json:"unknown"` // times that evidence was missing
	Median  time.Duration `json:"median_nanos,omitempty"`
	Longest time.Duration `json:"longest_nanos,omitempty"` // of those that were mended
	Open    []Difference  `json:"open"`
}

// Look takes a view and returns what has changed since the one before. A drift is
// mended when a view shows that it is gone: while the evidence is missing, or a
// sync moves things, it stays open.
func (w *Watch) Look(v View) []Change {
	if w.open == nil {
		w.open, w.sum.Begin, w.before = map[key]episode{}, v.At, v.At
	}
	w.sum.Looks++
	w.sum.End = v.At
	var changes []Change
	now := Compare(v)
	for _, d := range now {
		k := key{d.Kind, d.View, d.Where}
		e, known := w.open[k]
		e.Difference = d
		if !known {
			e.since, e.before = v.At, w.before
			changes = append(changes, Change{At: v.At, What: d})
			w.count(d)
		}
		w.open[k] = e
	}
	for _, k := range w.keys() {
		e := w.open[k]
		if slices.ContainsFunc(now, func(d Difference) bool { return key{d.Kind, d.View, d.Where} == k }) || !settled(v, now, e.Difference) {
			continue
		}
		delete(w.open, k)
		c := Change{At: v.At, Mended: true, What: e.Difference, Took: v.At.Sub(e.since), AtMost: v.At.Sub(e.before)}
		changes = append(changes, c)
		if k.kind == Drift {
			w.sum.Mended++
			w.took = append(w.took, c.Took)
		}
	}
	w.before = v.At
	return changes
}

func (w *Watch) count(d Difference) {
	if d.Kind == Unknown {
		w.sum.Unknown++
		return
	}
	w.sum.Drifts++
}

// settled reports whether a view can tell that a difference is gone.
func settled(v View, now []Difference, d Difference) bool {
	if d.Kind == Unknown {
		return true
	}
	if d.View != Loaded && v.Busy() != "" {
		return false
	}
	return !slices.ContainsFunc(now, func(u Difference) bool {
		if u.Kind != Unknown || u.View != d.View && (u.View != InArgoCD || d.View != InGit) {
			return false
		}
		return d.View != Loaded || node(u.Where) == "" || node(u.Where) == node(d.Where)
	})
}

// node is the one that a place of the probes is on, "" if it is about all.
func node(where string) string {
	rest, ok := strings.CutPrefix(where, "node ")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// keys lists what is open, in a fixed order.
func (w *Watch) keys() []key {
	var list []key
	for k := range w.open {
		list = append(list, k)
	}
	slices.SortFunc(list, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.view, b.view), cmp.Compare(a.where, b.where))
	})
	return list
}

// Summary is what was seen so far.
func (w *Watch) Summary() Summary {
	s := w.sum
	s.Open = []Difference{}
	for _, k := range w.keys() {
		s.Open = append(s.Open, w.open[k].Difference)
	}
	if n := len(w.took); n > 0 {
		sorted := slices.Sorted(slices.Values(w.took))
		s.Median, s.Longest = sorted[(n-1)/2], sorted[n-1]
	}
	return s
}

// String is the summary for a person.
func (s Summary) String() string {
	text := fmt.Sprintf("%d looks in %v: %s, %d mended", s.Looks, s.End.Sub(s.Begin).Round(time.Second), count(s.Drifts, "difference"), s.Mended)
	if s.Mended > 0 {
		text += fmt.Sprintf(" (median %v, longest %v)", s.Median.Round(100*time.Millisecond), s.Longest.Round(100*time.Millisecond))
	}
	if s.Unknown > 0 {
		text += fmt.Sprintf("; evidence was missing %s", count(s.Unknown, "time"))
	}
	if len(s.Open) > 0 {
		text += fmt.Sprintf("; %d still open", len(s.Open))
	}
	return text
}

// String is the change for a person.
func (c Change) String() string {
	at := c.At.Format(time.TimeOnly)
	if c.Mended {
		return fmt.Sprintf("%s  mended   %s %s after %v (at most %v)", at, c.What.View, c.What.Where, c.Took.Round(100*time.Millisecond), c.AtMost.Round(100*time.Millisecond))
	}
	return fmt.Sprintf("%s  %-7s  %s", at, c.What.Kind, c.What)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
