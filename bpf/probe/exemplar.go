package probe

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"
)

// Layout of struct exemplar in record.h.
const (
	exemplarSize = 56
	noGRPC       = 0xff
)

// How a trace id came (enum form in record.h).
const (
	traceBinary  = 1
	traceHuffman = 2
)

// Exemplars returns the requests worth a look that the probe has noted since the
// last call. It does not wait. Those of workloads that have gone meanwhile are
// left out.
func (p *Probe) Exemplars() ([]Exemplar, error) {
	r := p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Exemplar
	var record ringbuf.Record
	for listed := false; ; {
		err := r.ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return list, nil
		}
		if err != nil {
			return list, fmt.Errorf("reading the probe's exemplars: %w", err)
		}
		ticket, e, err := r.exemplar(record.RawSample)
		if err != nil {
			return list, err
		}
		var known bool
		if e.Workload, known = r.owners[ticket]; !known && !listed {
			if err := r.list(); err != nil {
				return list, err
			}
			listed = true
			e.Workload, known = r.owners[ticket]
		}
		if known {
			list = append(list, e)
		}
	}
}

// exemplar decodes a record of the ring buffer.
func (r *reader) exemplar(raw []byte) (ticket uint32, e Exemplar, err error) {
	if len(raw) != exemplarSize {
		return 0, e, fmt.Errorf("reading the probe's exemplars: a record has %d bytes, expected %d", len(raw), exemplarSize)
	}
	order := binary.NativeEndian
	e = Exemplar{
		At:      r.wall(order.Uint64(raw)),
		Took:    time.Duration(order.Uint64(raw[8:])),
		Status:  int(order.Uint16(raw[20:])),
		GRPC:    int(raw[22]),
		Aborted: raw[23] != 0,
		Trace:   traceID(raw[24:48], raw[48]),
	}
	if e.GRPC == noGRPC {
		e.GRPC = -1
	}
	return order.Uint32(raw[16:]), e, nil
}

// traceID is the trace id as the program kept it; zero if it is none.
func traceID(raw []byte, form byte) (id TraceID) {
	switch form {
	case traceBinary:
		copy(id[:], raw)
	case traceHuffman:
		if digits, ok := hexDigits(raw); ok {
			_, _ = hex.Decode(id[:], digits[:])
		}
	}
	return id
}

// hexDigits decodes 32 lower-case hexadecimal digits in Huffman's code of
// RFC 7541, appendix B: 0, 1, 2, a, c and e have five bits, the others six.
func hexDigits(raw []byte) (digits [32]byte, ok bool) {
	bit := 0
	take := func(n int) (code byte) {
		for range n {
			code <<= 1
			if bit/8 < len(raw) {
				code |= raw[bit/8] >> (7 - bit%8) & 1
			}
			bit++
		}
		return code
	}
	for i := range digits {
		switch code := take(5); code {
		case 0, 1, 2:
			digits[i] = '0' + code
		case 3, 4, 5:
			digits[i] = "ace"[code-3]
		default:
			code = code<<1 | take(1)
			switch {
			case code >= 0x19 && code <= 0x1f:
				digits[i] = '3' + code - 0x19
			case code >= 0x23 && code <= 0x25:
				digits[i] = "bdf"[code-0x23]
			default:
				return digits, false
			}
		}
	}
	return digits, true
}
