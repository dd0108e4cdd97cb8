package wire

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
)

// Encode appends a Status to dst, which it returns. The same Status gives the
// same bytes.
func Encode(dst []byte, s *Status) []byte {
	dst = number(dst, snapshotVersion, Version)
	dst = text(dst, snapshotNode, s.Node)
	dst = fixedAlways(dst, snapshotAt, nanos(s.At))
	dst = encodeStart(dst, s.Start)
	dst = encodeLoaded(dst, s.Loaded)
	dst = text(dst, snapshotMismatch, s.Mismatch)
	dst = number(dst, snapshotMismatches, s.Mismatches)
	dst = number(dst, snapshotSwaps, s.Swaps)
	dst = encodeLoss(dst, s.Loss)
	dst = encodeCost(dst, s.Cost)
	dst = encodeBudget(dst, s.Budget)
	for i := range s.Exemplars {
		dst = encodeExemplar(dst, &s.Exemplars[i])
	}
	var c probe.Counts
	for _, w := range slices.SortedFunc(maps.Keys(s.Workloads), order) {
		c = s.Workloads[w]
		dst = encodeWorkload(dst, w, &c)
	}
	return dst
}

// order is that of workloads on the wire: by control group, local address
// (none, IPv4, IPv6) and port.
func order(a, b probe.Workload) int {
	return cmp.Or(cmp.Compare(a.Cgroup, b.Cgroup), a.Addr.Compare(b.Addr))
}

func encodeStart(dst []byte, s Start) []byte {
	dst, at := begin(dst, snapshotStart)
	dst = textAlways(dst, startBoot, s.Boot)
	return end(fixedAlways(dst, startLoaded, nanos(s.Loaded)), at)
}

func encodeLoss(dst []byte, l probe.Loss) []byte {
	dst, at := begin(dst, snapshotLoss)
	dst = number(dst, lossRequests, l.Requests)
	dst = number(dst, lossUnmeasured, l.Unmeasured)
	dst = number(dst, lossDesynced, l.Desynced)
	dst = number(dst, lossOlder, l.Older)
	return endAny(number(dst, lossExemplars, l.Exemplars), snapshotLoss, at)
}

func encodeCost(dst []byte, c probe.Cost) []byte {
	dst, at := begin(dst, snapshotCost)
	dst = number(dst, costRuns, c.Runs)
	return endAny(number(dst, costTime, uint64(c.Time)), snapshotCost, at)
}

func encodeBudget(dst []byte, b Budget) []byte {
	dst, at := begin(dst, snapshotBudget)
	dst = fixed(dst, budgetShare, math.Float64bits(b.Share))
	return endAny(fixed(dst, budgetLimit, math.Float64bits(b.Limit)), snapshotBudget, at)
}

func encodeKey(dst []byte, num protowire.Number, w probe.Workload) []byte {
	dst, at := begin(dst, num)
	dst = number(dst, keyCgroup, w.Cgroup)
	if addr := w.Addr.Addr(); addr.Is4() {
		ip := addr.As4()
		dst = raw(dst, keyAddress, ip[:])
	} else if addr.Is6() {
		ip := addr.As16()
		dst = raw(dst, keyAddress, ip[:])
	}
	return end(number(dst, keyPort, uint64(w.Addr.Port())), at)
}

func encodeExemplar(dst []byte, e *probe.Exemplar) []byte {
	dst, at := begin(dst, snapshotExemplars)
	dst = encodeKey(dst, exemplarWorkload, e.Workload)
	dst = fixedAlways(dst, exemplarAt, nanos(e.At))
	dst = number(dst, exemplarTook, uint64(e.Took))
	dst = number(dst, exemplarStatus, uint64(e.Status))
	if e.GRPC >= 0 {
		dst = protowire.AppendTag(dst, exemplarGRPC, protowire.VarintType)
		dst = protowire.AppendVarint(dst, uint64(e.GRPC))
	}
	dst = number(dst, exemplarAborted, protowire.EncodeBool(e.Aborted))
	if !e.Trace.IsZero() {
		dst = raw(dst, exemplarTrace, e.Trace[:])
	}
	return end(dst, at)
}

func encodeWorkload(dst []byte, w probe.Workload, c *probe.Counts) []byte {
	dst, at := begin(dst, snapshotWorkloads)
	dst = encodeKey(dst, workloadKey, w)
	t := tallyOf(c)
	for i, n := range t.sums {
		dst = number(dst, workloadFirstSum+protowire.Number(i), n)
	}
	dst = numbers(dst, workloadClasses, t.classes[:])
	dst = numbers(dst, workloadGRPC, t.grpc[:])
	dst = buckets(dst, workloadLatency, &c.Latency)
	dst = buckets(dst, workloadComplete, &c.Complete)
	dst = fixed(dst, workloadFirst, t.first)
	return end(fixed(dst, workloadFirstError, t.firstError), at)
}

func buckets(dst []byte, num protowire.Number, h *histogram.Histogram) []byte {
	dst, at := begin(dst, num)
	return endAny(appendBuckets(dst, h), num, at)
}
