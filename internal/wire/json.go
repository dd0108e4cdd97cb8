package wire

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/histogram"
)

// statusJSON is a Status as a person reads it.
type statusJSON struct {
	Version    int            `json:"version"`
	Node       string         `json:"node"`
	At         time.Time      `json:"at"`
	Start      Start          `json:"start"`
	Loaded     bpf.Loaded     `json:"loaded"`
	Mismatch   string         `json:"mismatch,omitempty"`
	Mismatches uint64         `json:"mismatches,omitempty"`
	Swaps      uint64         `json:"swaps"`
	Loss       lossJSON       `json:"loss"`
	Cost       costJSON       `json:"cost"`
	Budget     Budget         `json:"budget"`
	Exemplars  []exemplarJSON `json:"exemplars"`
	Workloads  []workloadJSON `json:"workloads"`
}

type lossJSON struct {
	Requests   uint64 `json:"requests"`
	Unmeasured uint64 `json:"unmeasured"`
	Desynced   uint64 `json:"desynced"`
	Older      uint64 `json:"older"`
	Exemplars  uint64 `json:"exemplars"`
}

type costJSON struct {
	Runs uint64        `json:"runs"`
	Time time.Duration `json:"time_nanos"`
}

// keyJSON is a workload; without an address, the connections it opens.
type keyJSON struct {
	Cgroup  uint64          `json:"cgroup"`
	Address *netip.AddrPort `json:"address,omitempty"`
}

type exemplarJSON struct {
	keyJSON
	At      time.Time     `json:"at"`
	Took    time.Duration `json:"took_nanos"`
	Status  int           `json:"status,omitempty"`
	GRPC    *int          `json:"grpc,omitempty"`
	Aborted bool          `json:"aborted,omitempty"`
	Trace   string        `json:"trace,omitempty"`
}

type workloadJSON struct {
	keyJSON
	countsJSON
}

// countsJSON has the fields of probe.Counts, so that one converts to the other.
type countsJSON struct {
	Begun       uint64                  `json:"begun"`
	Requests    uint64                  `json:"requests"`
	Aborted     uint64                  `json:"aborted"`
	Truncated   uint64                  `json:"truncated"`
	Classes     [classes]uint64         `json:"classes"` // unreadable, 1xx … 5xx
	GRPC        [probe.GRPCCodes]uint64 `json:"grpc,omitzero"`
	Connections uint64                  `json:"connections"`
	Resets      uint64                  `json:"resets"`
	Segments    uint64                  `json:"segments"`
	Retransmits uint64                  `json:"retransmits"`
	BytesIn     uint64                  `json:"bytes_in"`
	BytesOut    uint64                  `json:"bytes_out"`
	Latency     histogram.Histogram     `json:"latency"` // [[bucket, count], …]
	LatencySum  time.Duration           `json:"latency_sum_nanos"`
	Complete    histogram.Histogram     `json:"complete"`
	First       time.Time               `json:"first,omitzero"`
	FirstError  time.Time               `json:"first_error,omitzero"`
}

// MarshalJSON writes the readable form, with the same content as [Encode].
func (s Status) MarshalJSON() ([]byte, error) {
	out := statusJSON{
		Version: Version, Node: s.Node, At: s.At, Start: s.Start, Loaded: s.Loaded, Mismatch: s.Mismatch,
		Mismatches: s.Mismatches, Swaps: s.Swaps, Loss: lossJSON(s.Loss), Cost: costJSON(s.Cost), Budget: s.Budget,
		Exemplars: make([]exemplarJSON, len(s.Exemplars)),
		Workloads: make([]workloadJSON, 0, len(s.Workloads)),
	}
	for i, e := range s.Exemplars {
		out.Exemplars[i] = exemplarJSON{keyJSON: keyOf(e.Workload), At: e.At, Took: e.Took, Status: e.Status, Aborted: e.Aborted}
		if e.GRPC >= 0 {
			out.Exemplars[i].GRPC = &e.GRPC
		}
		if !e.Trace.IsZero() {
			out.Exemplars[i].Trace = e.Trace.String()
		}
	}
	for _, w := range slices.SortedFunc(maps.Keys(s.Workloads), order) {
		out.Workloads = append(out.Workloads, workloadJSON{keyOf(w), countsJSON(s.Workloads[w])})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Status) UnmarshalJSON(data []byte) error {
	var in statusJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("reading a snapshot: %w", err)
	}
	if in.Version != Version {
		return fmt.Errorf("reading a snapshot: version is %d, this reader knows %d", in.Version, Version)
	}
	read := Status{
		Node: in.Node, Start: in.Start, Loaded: in.Loaded, Mismatch: in.Mismatch,
		Mismatches: in.Mismatches, Swaps: in.Swaps, Cost: probe.Cost(in.Cost), Budget: in.Budget,
	}
	read.At, read.Loss = in.At, probe.Loss(in.Loss)
	for _, e := range in.Exemplars {
		trace, err := traceOf(e.Trace)
		if err != nil {
			return err
		}
		x := probe.Exemplar{Workload: e.workload(), At: e.At, Took: e.Took, Status: e.Status, GRPC: -1, Aborted: e.Aborted, Trace: trace}
		if e.GRPC != nil {
			x.GRPC = *e.GRPC
		}
		read.Exemplars = append(read.Exemplars, x)
	}
	read.Workloads = make(map[probe.Workload]probe.Counts, len(in.Workloads))
	for _, w := range in.Workloads {
		if _, twice := read.Workloads[w.workload()]; twice {
			return fmt.Errorf("reading a snapshot: control group %d at %s is there twice", w.Cgroup, w.workload().Addr)
		}
		read.Workloads[w.workload()] = probe.Counts(w.countsJSON)
	}
	*s = read
	return nil
}

func keyOf(w probe.Workload) keyJSON {
	if w.Outgoing() {
		return keyJSON{Cgroup: w.Cgroup}
	}
	return keyJSON{Cgroup: w.Cgroup, Address: &w.Addr}
}

func (k keyJSON) workload() probe.Workload {
	w := probe.Workload{Cgroup: k.Cgroup}
	if k.Address != nil {
		w.Addr = *k.Address
	}
	return w
}

func traceOf(text string) (id probe.TraceID, err error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(id) && len(raw) != 0 {
		return id, fmt.Errorf("reading a snapshot: trace id %q, expected 32 hexadecimal digits", text)
	}
	copy(id[:], raw)
	return id, nil
}
