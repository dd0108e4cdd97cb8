// Package wire is what a sluice-probe says and how it is read: the format of
// GET /v1/snapshot, the messages of the other paths, and the client.
//
// A snapshot is a [Status] in protobuf's wire format; snapshot.proto is its
// schema and docs/snapshot.md its description. Counters are those since the
// probe was loaded, so a reader that misses a second loses nothing: what
// happened between two readings is their [Delta], or for many nodes at once
// their [Merge]. Both notice a probe that was started anew and return a
// [ResetError], never a wrong number.
//
// What is read comes from the network. Anything may arrive: it never panics, and
// takes no more memory than a small multiple of its size and what
// [MaxWorkloads] workloads take.
package wire

import (
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

// Version is that of the format. It changes only when a reader of the old one
// would read the new one wrongly; a new field does not change it.
const Version = 1

// MediaType is the Content-Type of an encoded Status.
const MediaType = "application/vnd.sluice.snapshot.v1+protobuf"

// MaxWorkloads is the most that Decode reads: a Status holds 13.7 KB for each,
// whatever its size on the wire. More are a *FormatError.
const MaxWorkloads = 4096

// Status is what a node's probe has counted and how far that can be trusted.
type Status struct {
	probe.Snapshot                  // counted since Start
	Node           string           // name of the machine
	Start          Start            // which run of the probe counted
	Loaded         bpf.Loaded       // what is in the kernel
	Mismatch       string           // how that differs from what was loaded and verified; empty: it does not
	Mismatches     uint64           // how often it differed since the daemon began: one that was put right between two readings shows here
	Swaps          uint64           // objects that took the place of another one since Start
	Cost           Cost             // of the probe itself since Start
	Budget         Budget           // what it may cost
	Exemplars      []probe.Exemplar // of the last seconds
}

// Start tells one run of a probe from another: counters of the same Start only
// grow. A probe that takes over pinned counters keeps their Start.
type Start struct {
	Boot   string    `json:"boot"`   // the kernel's boot id
	Loaded time.Time `json:"loaded"` // when counting began, in nanoseconds
}

// Cost is the processor time that the probe's programs took in the kernel.
type Cost = probe.Cost

// Budget compares what the probe costs with what it may, as shares of one core.
type Budget struct {
	Share float64 `json:"share"` // taken lately, kernel programs and daemon together
	Limit float64 `json:"limit"` // allowed; 0: no limit
}

// Exceeded reports whether the probe costs more than it may.
func (b Budget) Exceeded() bool { return b.Limit > 0 && b.Share > b.Limit }

// Coverage is the share of requests that were measured, of those that the probe
// knows of. Each connection that it could not read, or lost track of, counts as
// one missed request, so the real share may be lower. It is false when nothing
// was seen at all.
func (s *Status) Coverage() (share float64, ok bool) {
	var measured uint64
	for w, c := range s.Workloads {
		if !w.Outgoing() {
			measured += c.Requests + c.Aborted
		}
	}
	missed := s.Loss.Requests + s.Loss.Unmeasured + s.Loss.Desynced + s.Loss.Older
	if measured+missed == 0 {
		return 0, false
	}
	return float64(measured) / float64(measured+missed), true
}
