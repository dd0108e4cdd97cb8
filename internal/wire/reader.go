package wire

import (
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// FormatError means that bytes are no encoded Status.
type FormatError struct {
	Where string // field, as a path in the schema: "workloads[3].latency"
	What  string // what is wrong with it
}

func (e *FormatError) Error() string {
	if e.Where == "" {
		return "not a snapshot of a probe: " + e.What
	}
	return fmt.Sprintf("not a snapshot of a probe: %s: %s", e.Where, e.What)
}

// reader reads the fields of a message one after the other:
//
//	for r.next() {
//		switch r.num {
//		case costRuns:
//			c.Runs = r.uint("runs")
//		}
//	}
//	return r.err
//
// A field that no case takes is skipped. The first error ends the loop.
type reader struct {
	rest []byte
	num  protowire.Number
	typ  protowire.Type
	n    uint64 // value of a varint or of 64 fixed bits
	b    []byte // value of everything with a length
	seen uint64 // fields that were there, as bits
	err  *FormatError
	in   *reader // of messages inside this one, used again for each
}

// next goes to the next field.
func (r *reader) next() bool {
	if r.err != nil || len(r.rest) == 0 {
		return false
	}
	num, typ, size := protowire.ConsumeTag(r.rest)
	if size < 0 {
		r.err = &FormatError{What: "a field's tag is cut off or invalid"}
		return false
	}
	r.num, r.typ, r.rest = num, typ, r.rest[size:]
	switch typ {
	case protowire.VarintType:
		r.n, size = protowire.ConsumeVarint(r.rest)
	case protowire.Fixed64Type:
		r.n, size = protowire.ConsumeFixed64(r.rest)
	case protowire.BytesType:
		r.b, size = protowire.ConsumeBytes(r.rest)
	default:
		size = protowire.ConsumeFieldValue(num, typ, r.rest)
	}
	if size < 0 {
		r.err = &FormatError{What: fmt.Sprintf("field %d is cut off or invalid", num)}
		return false
	}
	r.rest = r.rest[size:]
	return true
}

// fail notes the first error.
func (r *reader) fail(name, what string) {
	if r.err == nil {
		r.err = &FormatError{Where: name, What: what}
	}
}

// is checks the type of a field that may be there once.
func (r *reader) is(name string, typ protowire.Type) bool {
	bit := uint64(1) << r.num
	switch {
	case r.typ != typ:
		r.fail(name, fmt.Sprintf("wire type %d, expected %d", r.typ, typ))
		return false
	case r.seen&bit != 0:
		r.fail(name, "is there twice")
		return false
	}
	r.seen |= bit
	return true
}

// need ends a message: the named field must have been there.
func (r *reader) need(name string, num protowire.Number) {
	if r.seen&(1<<num) == 0 {
		r.fail(name, "is missing")
	}
}

// uint is a number up to 64 bits.
func (r *reader) uint(name string) uint64 {
	if !r.is(name, protowire.VarintType) {
		return 0
	}
	return r.n
}

// upTo is a number with a limit.
func (r *reader) upTo(name string, limit uint64) uint64 {
	n := r.uint(name)
	if n > limit {
		r.fail(name, fmt.Sprintf("is %d, at most %d is possible", n, limit))
		return 0
	}
	return n
}

func (r *reader) uint32(name string) uint32 { return uint32(r.upTo(name, math.MaxUint32)) }

// duration is a number of nanoseconds.
func (r *reader) duration(name string) time.Duration {
	return time.Duration(r.upTo(name, math.MaxInt64))
}

// instant is a number of nanoseconds since 1970, 0 for none.
func (r *reader) instant(name string) uint64 {
	if !r.is(name, protowire.Fixed64Type) {
		return 0
	}
	if r.n > math.MaxInt64 {
		r.fail(name, "is a time before 1970 or after 2262")
		return 0
	}
	return r.n
}

// share is a number that is finite and not negative.
func (r *reader) share(name string) float64 {
	if !r.is(name, protowire.Fixed64Type) {
		return 0
	}
	f := math.Float64frombits(r.n)
	if !(f >= 0) || math.IsInf(f, 0) {
		r.fail(name, fmt.Sprintf("is %g, expected a finite share", f))
		return 0
	}
	return f
}

// bytes is whatever has a length.
func (r *reader) bytes(name string) []byte {
	if !r.is(name, protowire.BytesType) {
		return nil
	}
	return r.b
}

// each is bytes of a field that may be there many times.
func (r *reader) each(name string) []byte {
	if r.typ != protowire.BytesType {
		r.fail(name, fmt.Sprintf("wire type %d, expected %d", r.typ, protowire.BytesType))
		return nil
	}
	return r.b
}

// message reads a message inside the one that r reads; index is its place in a
// list, −1 outside of lists.
func message[T any](r *reader, name string, index int, b []byte, read func(*reader) T) T {
	if r.err != nil {
		var none T
		return none
	}
	if r.in == nil {
		r.in = new(reader)
	}
	*r.in = reader{rest: b, in: r.in.in}
	value := read(r.in)
	if err := r.in.err; err != nil {
		if index >= 0 {
			name = fmt.Sprintf("%s[%d]", name, index)
		}
		if err.Where != "" {
			name += "." + err.Where
		}
		r.fail(name, err.What)
	}
	return value
}

// text is a string.
func (r *reader) text(name string) string {
	b := r.bytes(name)
	if !utf8.Valid(b) {
		r.fail(name, "is not UTF-8")
		return ""
	}
	return string(b)
}

// numbers reads a packed list that is at most as long as dst.
func (r *reader) numbers(name string, dst []uint64) {
	b := r.bytes(name)
	for i := 0; len(b) > 0; i++ {
		n, size := protowire.ConsumeVarint(b)
		if size < 0 {
			r.fail(name, "a number is cut off or longer than 64 bits")
			return
		}
		if i == len(dst) {
			r.fail(name, fmt.Sprintf("has more than %d numbers", len(dst)))
			return
		}
		dst[i], b = n, b[size:]
	}
}
