package wire

import (
	"fmt"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
)

// Decode reads what Encode wrote. The error is a *FormatError.
func Decode(b []byte) (Status, error) {
	workloads := map[probe.Workload]probe.Counts{}
	var w workload
	s, err := read(b, &w, func() {
		var c probe.Counts
		w.addTo(&c)
		add(&c.Latency, w.latency)
		add(&c.Complete, w.complete)
		workloads[w.key] = c
	})
	if err != nil {
		return Status{}, err
	}
	s.Workloads = workloads
	return s, nil
}

func add(h *histogram.Histogram, list []bucket) {
	for _, b := range list {
		h.Add(b.index, b.n)
	}
}

// read reads everything but the workloads. Those it reads into w one after the
// other, and calls seen for each.
func read(b []byte, w *workload, seen func()) (Status, error) {
	var s Status
	var before probe.Workload
	count := 0
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case snapshotExemplars:
			s.Exemplars = append(s.Exemplars, message(&r, "exemplars", len(s.Exemplars), r.each("exemplars"), readExemplar))
		case snapshotWorkloads:
			message(&r, "workloads", count, r.each("workloads"), w.read)
			if count > 0 && order(before, w.key) >= 0 {
				r.fail(fmt.Sprintf("workloads[%d].key", count), "is not above the one before")
			}
			if before, count = w.key, count+1; count > MaxWorkloads {
				r.fail("workloads", fmt.Sprintf("are more than %d", MaxWorkloads))
			}
			if r.err == nil {
				seen()
			}
		default:
			s.readOne(&r)
		}
	}
	r.need("version", snapshotVersion)
	r.need("at_unix_nano", snapshotAt)
	r.need("start", snapshotStart)
	if r.err != nil {
		return Status{}, r.err
	}
	return s, nil
}

// readOne reads a field that is there once.
func (s *Status) readOne(r *reader) {
	switch r.num {
	case snapshotVersion:
		if v := r.uint("version"); v != Version {
			r.fail("version", fmt.Sprintf("is %d, this reader knows %d", v, Version))
		}
	case snapshotNode:
		s.Node = r.text("node")
	case snapshotAt:
		s.At = instant(r.instant("at_unix_nano"))
	case snapshotStart:
		s.Start = message(r, "start", -1, r.bytes("start"), readStart)
	case snapshotLoaded:
		s.Loaded = message(r, "loaded", -1, r.bytes("loaded"), readLoaded)
	case snapshotMismatch:
		s.Mismatch = r.text("mismatch")
	case snapshotSwaps:
		s.Swaps = r.uint("swaps")
	case snapshotLoss:
		s.Loss = message(r, "loss", -1, r.bytes("loss"), readLoss)
	case snapshotCost:
		s.Cost = message(r, "cost", -1, r.bytes("cost"), readCost)
	case snapshotBudget:
		s.Budget = message(r, "budget", -1, r.bytes("budget"), readBudget)
	}
}

func readStart(r *reader) (s Start) {
	for r.next() {
		switch r.num {
		case startBoot:
			s.Boot = r.text("boot")
		case startLoaded:
			s.Loaded = instant(r.instant("loaded_unix_nano"))
		}
	}
	r.need("boot", startBoot)
	r.need("loaded_unix_nano", startLoaded)
	return s
}

func readLoss(r *reader) (l probe.Loss) {
	for r.next() {
		switch r.num {
		case lossRequests:
			l.Requests = r.uint("requests")
		case lossUnmeasured:
			l.Unmeasured = r.uint("unmeasured")
		case lossDesynced:
			l.Desynced = r.uint("desynced")
		case lossOlder:
			l.Older = r.uint("older")
		case lossExemplars:
			l.Exemplars = r.uint("exemplars")
		}
	}
	return l
}

func readCost(r *reader) (c probe.Cost) {
	for r.next() {
		switch r.num {
		case costRuns:
			c.Runs = r.uint("runs")
		case costTime:
			c.Time = r.duration("time_nanos")
		}
	}
	return c
}

func readBudget(r *reader) (b Budget) {
	for r.next() {
		switch r.num {
		case budgetShare:
			b.Share = r.share("share")
		case budgetLimit:
			b.Limit = r.share("limit")
		}
	}
	return b
}
