package wire

import (
	"fmt"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// Decode reads what Encode wrote. The error is a *FormatError.
func Decode(b []byte) (Status, error) {
	s, list, err := read(b, nil)
	if err != nil {
		return Status{}, err
	}
	s.Workloads = make(map[probe.Workload]probe.Counts, len(list))
	var more increase
	var c probe.Counts // 13.7 KB, so only one
	for i := range list {
		more.reset()
		if err := more.append(&list[i], &absent); err != nil {
			return Status{}, err.in(i)
		}
		c = probe.Counts{}
		more.addTo(&c, 0)
		s.Workloads[list[i].key] = c
	}
	return s, nil
}

// read reads everything but the workloads, which it appends to list. Their
// histograms are not looked at.
func read(b []byte, list []workload) (Status, []workload, error) {
	var s Status
	r := reader{rest: b}
	for r.next() {
		switch r.num {
		case snapshotExemplars:
			s.Exemplars = append(s.Exemplars, message(&r, "exemplars", len(s.Exemplars), r.each("exemplars"), readExemplar))
		case snapshotWorkloads:
			list = append(list, message(&r, "workloads", len(list), r.each("workloads"), readWorkload))
			checkOrder(&r, list)
		default:
			s.readOne(&r)
		}
	}
	r.need("version", snapshotVersion)
	r.need("at_unix_nano", snapshotAt)
	r.need("start", snapshotStart)
	if r.err != nil {
		return Status{}, list, r.err
	}
	return s, list, nil
}

// checkOrder checks the last workload of a list.
func checkOrder(r *reader, list []workload) {
	last := len(list) - 1
	if last > 0 && order(list[last-1].key, list[last].key) >= 0 {
		r.fail(fmt.Sprintf("workloads[%d].key", last), "is not above the one before")
	}
	if last == MaxWorkloads {
		r.fail("workloads", fmt.Sprintf("are more than %d", MaxWorkloads))
	}
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
	case snapshotMismatches:
		s.Mismatches = r.uint("mismatches")
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
