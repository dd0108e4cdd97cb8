package probe

import (
	"encoding/hex"
	"net/netip"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// Workload is what is counted separately: what a control group answers at one
// local address, or, with the zero Addr, the connections that it opens.
type Workload struct {
	Cgroup uint64         // id of the control group of the process
	Addr   netip.AddrPort // local address and port; the zero value: outgoing connections
}

// Outgoing reports whether the workload is the connections that a control group
// opens. Of its Counts then: Requests are connections that were made, Aborted
// those that failed, Latency the time from the first SYN to the handshake's end.
func (w Workload) Outgoing() bool { return !w.Addr.IsValid() }

// GRPCCodes is the number of gRPC status codes, OK (0) to UNAUTHENTICATED (16).
const GRPCCodes = 17

// Counts is what a workload did since the probe was loaded, or since it was
// forgotten. Every number only grows.
type Counts struct {
	Begun     uint64            // requests whose first byte has come
	Requests  uint64            // answered with a final status
	Aborted   uint64            // ended without a final status: connection closed, stream reset
	Truncated uint64            // answered, but the answer was cut off by the server (HTTP/2 RST_STREAM)
	Classes   [6]uint64         // answers by class: [2] is 2xx; [0]: the status could not be read, or is of no class
	GRPC      [GRPCCodes]uint64 // ended gRPC calls by status code, a part of Requests

	Connections uint64 // accepted
	Resets      uint64 // connections that ended by a reset and not in order
	Segments    uint64 // TCP segments with data that were sent
	Retransmits uint64 // TCP segments sent again
	BytesIn     uint64 // payload, each byte once
	BytesOut    uint64

	Latency    histogram.Histogram // from the first byte of a request to the first of its answer
	LatencySum time.Duration
	Complete   histogram.Histogram // to the last byte; see bpf/README.md on when it is known

	First      time.Time // first answer or abort; zero if none
	FirstError time.Time // first failure (see Failed); zero if none
}

// InFlight is the number of requests without an answer.
func (c *Counts) InFlight() uint64 {
	if ended := c.Requests + c.Aborted; c.Begun > ended {
		return c.Begun - ended
	}
	return 0
}

// Add adds what another workload did.
func (c *Counts) Add(d *Counts) {
	c.Begun += d.Begun
	c.Requests += d.Requests
	c.Aborted += d.Aborted
	c.Truncated += d.Truncated
	c.Connections += d.Connections
	c.Resets += d.Resets
	c.Segments += d.Segments
	c.Retransmits += d.Retransmits
	c.BytesIn += d.BytesIn
	c.BytesOut += d.BytesOut
	c.LatencySum += d.LatencySum
	for i, n := range d.Classes {
		c.Classes[i] += n
	}
	for i, n := range d.GRPC {
		c.GRPC[i] += n
	}
	c.Latency.Merge(&d.Latency)
	c.Complete.Merge(&d.Complete)
	c.First = earlier(c.First, d.First)
	c.FirstError = earlier(c.FirstError, d.FirstError)
}

// earlier is the earlier one of two times, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

// Failed is the number of requests that failed: 5xx, no answer at all, whoever
// gave up (a client that does not wait any longer is a sign, too), an answer cut off by the server, or a gRPC status that OpenTelemetry's
// conventions call a server error (UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
// INTERNAL, UNAVAILABLE, DATA_LOSS).
//
// A 5xx that has a gRPC status of this kind, too, counts twice.
func (c *Counts) Failed() uint64 {
	n := c.Classes[5] + c.Aborted + c.Truncated
	for code, calls := range c.GRPC {
		if ServerError(code) {
			n += calls
		}
	}
	return n
}

// ServerError reports whether a gRPC status code is the server's fault.
func ServerError(grpcCode int) bool {
	switch grpcCode {
	case 2, 4, 12, 13, 14, 15:
		return true
	}
	return false
}

// Snapshot is everything a probe has counted.
type Snapshot struct {
	At        time.Time
	Workloads map[Workload]Counts
	Loss      Loss
}

// Loss is what a probe saw and could not count.
type Loss struct {
	Requests   uint64 // no room for their workload, connection or stream
	Unmeasured uint64 // connections that speak something else: TLS, an unknown protocol
	Desynced   uint64 // times that an HTTP/2 connection was lost track of
	Older      uint64 // connections older than the probe that it cannot read
	Exemplars  uint64 // exemplars that nobody read in time; nothing else is missing
}

// Exemplar is one request that a person may want to look at: one that failed,
// or the slowest of a workload so far in a second.
type Exemplar struct {
	Workload Workload
	At       time.Time     // when it was answered
	Took     time.Duration // to the first byte of the answer
	Status   int           // HTTP status; 0: none
	GRPC     int           // gRPC status code; −1: none
	Aborted  bool
	Trace    TraceID // from the request's traceparent header; zero if there was none
}

// TraceID is that of the W3C Trace Context.
type TraceID [16]byte

// IsZero reports whether there is none.
func (t TraceID) IsZero() bool { return t == TraceID{} }

// String is its 32 hexadecimal digits.
func (t TraceID) String() string { return hex.EncodeToString(t[:]) }
