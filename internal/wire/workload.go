package wire

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// workload is a workload as it comes. Its histograms are read when they are
// needed, which for most readers means not all of them.
type workload struct {
	key probe.Workload
	tally
	latency, complete []byte
}

// absent is a workload that was not there; nobody changes it.
var absent workload

func readWorkload(r *reader) (w workload) {
	for r.next() {
		switch r.num {
		case workloadKey:
			w.key = message(r, "key", -1, r.bytes("key"), readKey)
		case workloadClasses:
			r.numbers("classes", w.classes[:])
		case workloadGRPC:
			r.numbers("grpc", w.grpc[:])
		case workloadLatency:
			w.latency = r.bytes("latency")
		case workloadComplete:
			w.complete = r.bytes("complete")
		case workloadFirst:
			w.first = r.instant("first_unix_nano")
		case workloadFirstError:
			w.firstError = r.instant("first_error_unix_nano")
		default:
			w.readSum(r)
		}
	}
	r.need("key", workloadKey)
	return w
}

// readSum reads a field that is one growing number.
func (w *workload) readSum(r *reader) {
	switch i := int(r.num - workloadFirstSum); {
	case i == latencySum:
		w.sums[i] = uint64(r.duration("latency_sum_nanos"))
	case i >= 0 && i < latencySum:
		w.sums[i] = r.uint(scalars[i].name)
	}
}

func readKey(r *reader) (w probe.Workload) {
	var addr netip.Addr
	var port uint16
	for r.next() {
		switch r.num {
		case keyCgroup:
			w.Cgroup = r.uint("cgroup")
		case keyAddress:
			b := r.bytes("address")
			var ok bool
			if addr, ok = netip.AddrFromSlice(b); !ok {
				r.fail("address", fmt.Sprintf("has %d bytes, expected 4 or 16", len(b)))
			}
		case keyPort:
			port = uint16(r.upTo("port", math.MaxUint16))
		}
	}
	if port != 0 && !addr.IsValid() {
		r.fail("port", "is there without an address")
	}
	w.Addr = netip.AddrPortFrom(addr, port)
	return w
}

func readExemplar(r *reader) (e probe.Exemplar) {
	e.GRPC = -1
	for r.next() {
		switch r.num {
		case exemplarWorkload:
			e.Workload = message(r, "workload", -1, r.bytes("workload"), readKey)
		case exemplarAt:
			e.At = instant(r.instant("at_unix_nano"))
		case exemplarTook:
			e.Took = r.duration("took_nanos")
		case exemplarStatus:
			e.Status = int(r.upTo("status", 999))
		case exemplarGRPC:
			e.GRPC = int(r.upTo("grpc", math.MaxInt32))
		case exemplarAborted:
			e.Aborted = protowire.DecodeBool(r.uint("aborted"))
		case exemplarTrace:
			b := r.bytes("trace")
			if copy(e.Trace[:], b) != len(b) || len(b) != len(e.Trace) {
				r.fail("trace", fmt.Sprintf("has %d bytes, expected %d", len(b), len(e.Trace)))
			}
		}
	}
	r.need("workload", exemplarWorkload)
	r.need("at_unix_nano", exemplarAt)
	return e
}
