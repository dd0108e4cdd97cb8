package agent

import (
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// segments adds up what all workloads have sent.
func segments(snap probe.Snapshot) Segments {
	var s Segments
	for _, c := range snap.Workloads {
		s.Sent += c.Segments
		s.Again += c.Retransmits
	}
	return s
}

func (s Segments) plus(t Segments) Segments {
	return Segments{Sent: s.Sent + t.Sent, Again: s.Again + t.Again}
}

// window remembers what was sent in the last minute, interval by interval.
type window struct {
	list  []interval
	total Segments
	begun bool
}

type interval struct {
	Segments
	end time.Time
}

// windowLength is the length of a baseline.
const windowLength = time.Minute

// add takes a total. One that is smaller than before (a probe that was loaded
// anew) begins a new count.
func (w *window) add(at time.Time, total Segments) {
	var s Segments
	if w.begun && total.Sent >= w.total.Sent && total.Again >= w.total.Again {
		s = Segments{Sent: total.Sent - w.total.Sent, Again: total.Again - w.total.Again}
	}
	w.total, w.begun = total, true
	w.list = append(w.list, interval{s, at})
	for len(w.list) > 0 && at.Sub(w.list[0].end) > windowLength {
		w.list = w.list[1:]
	}
}

// last is the newest interval.
func (w *window) last() Segments {
	if len(w.list) == 0 {
		return Segments{}
	}
	return w.list[len(w.list)-1].Segments
}

// intervals lists those of the last minute.
func (w *window) intervals() []Segments {
	list := make([]Segments, len(w.list))
	for i, in := range w.list {
		list[i] = in.Segments
	}
	return list
}
