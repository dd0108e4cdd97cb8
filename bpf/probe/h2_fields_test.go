package probe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"
)

// form is how a literal field is written (RFC 7541, 6.2).
type form struct {
	first   byte // of the representation
	bits    int  // of it for the index of the name
	huffman bool
}

var (
	adding = form{first: 0x40, bits: 6}
	never  = form{first: 0x10, bits: 4}
	forms  = map[string]form{
		"added": adding, "not added": {bits: 4}, "never to be added": never,
		"added, in Huffman's code":             {0x40, 6, true},
		"not added, in Huffman's code":         {0, 4, true},
		"never to be added, in Huffman's code": {0x10, 4, true},
	}
)

// statusName is the index of :status in the static table.
const statusName = 8

// field is a literal field; its name is that at an index, or literal, too.
func (f form) field(index int, name, value string) []byte {
	b := integer(nil, f.first, f.bits, index)
	if index == 0 {
		b = f.text(b, name)
	}
	return f.text(b, value)
}

func (f form) text(b []byte, s string) []byte {
	if f.huffman {
		return hpack.AppendHuffmanString(integer(b, 0x80, 7, int(hpack.HuffmanEncodeLength(s))), s)
	}
	return append(integer(b, 0, 7, len(s)), s...)
}

// inTable is a field of a table as a whole; 62 is the newest of the dynamic one.
func inTable(index int) []byte { return integer(nil, 0x80, 7, index) }

// integer writes n behind a prefix of some bits (RFC 7541, 5.1).
func integer(b []byte, first byte, bits, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(b, first|byte(n))
	}
	b = append(b, first|byte(limit))
	for n -= limit; n >= 128; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// reply sends a request, and a block as its answer, which says a status and, with
// grpc ≥ 0, such a code.
func (x *pair) reply(status, grpc int, block ...[]byte) {
	x.stream += 2
	x.client.rawHead(x.stream-1, true, question)
	x.client.flush()
	x.server.rawHead(x.stream-1, true, slices.Concat(block...))
	x.server.flush()
	x.want.classes[status/100]++
	if grpc >= 0 {
		x.want.grpc[grpc]++
	}
}

func TestStatusesAreReadHoweverTheyAreWritten(t *testing.T) {
	cases := map[string]h2Case{
		"in the static table": {do: func(x *pair) {
			for i, status := range []int{200, 204, 206, 304, 400, 404, 500} {
				x.reply(status, -1, inTable(statusName+i))
			}
		}},
		"in the dynamic table": {do: func(x *pair) {
			x.reply(503, -1, adding.field(statusName, "", "503"))
			x.reply(503, -1, inTable(62))
			x.reply(201, -1, adding.field(statusName, "", "201"))
			x.reply(503, -1, inTable(63), adding.field(0, "x-one", "1"), adding.field(0, "x-two", "2"))
			x.reply(201, -1, inTable(64))
			x.reply(503, -1, inTable(65))
			x.reply(429, -1, adding.field(64, "", "429")) // whose name is that of the 201
			x.reply(429, -1, inTable(62))
		}},
		"the name is spelled": {do: func(x *pair) {
			x.reply(503, -1, adding.field(0, ":status", "503"))
			x.reply(503, -1, inTable(62))
			x.reply(404, -1, forms["added, in Huffman's code"].field(0, ":status", "404"))
		}},
		"more statuses than anybody has": {do: func(x *pair) {
			for range 3 { // 60 of them fit into a table of 4 kB
				for i := range 60 {
					x.reply(400+i, -1, adding.field(statusName, "", strconv.Itoa(400+i)))
				}
				for i := range 60 {
					x.reply(400+i, -1, inTable(62+59-i))
				}
			}
		}},
		"behind fields longer than any window": {do: func(x *pair) {
			long := strings.Repeat("0123456789", 1000)
			x.reply(503, -1, adding.field(statusName, "", "503"), never.field(0, long, long), never.field(0, "x", long), never.field(0, long, "x"))
			x.reply(503, -1, inTable(62), adding.field(0, "x", long)) // which leaves the table empty
			x.reply(201, -1, adding.field(statusName, "", "201"), adding.field(0, long[:2000], "x"))
			x.reply(201, -1, inTable(63))
		}},
		"with names and values of every length": {do: func(x *pair) {
			for n := range 300 {
				text := strings.Repeat("x", n)
				x.reply(503, -1, adding.field(0, text+"y", "z"), adding.field(statusName, "", "503"), never.field(0, "y", text))
				x.reply(503, -1, never.field(0, text+"y", text), inTable(62), never.field(statusName, "", "200")) // only the first counts
			}
		}},
	}
	for name, f := range forms {
		cases["every status, "+name] = h2Case{do: func(x *pair) {
			for status := 200; status < 600; status++ {
				x.reply(status, -1, f.field(statusName, "", strconv.Itoa(status)))
			}
		}}
		cases["every gRPC code, "+name] = h2Case{do: func(x *pair) {
			for code := range GRPCCodes {
				x.reply(200, code, inTable(statusName), f.field(0, "grpc-status", strconv.Itoa(code)))
			}
		}}
	}
	runCases(t, cases)
}

// TestWhatAnEncoderWritesIsRead lets an encoder with tables of changing size
// write any statuses, codes and other fields.
func TestWhatAnEncoderWritesIsRead(t *testing.T) {
	random := h2Case{do: func(x *pair) {
		seed := rand.Uint64()
		x.t.Logf("seed %d", seed)
		r := rand.New(rand.NewPCG(seed, 1))
		for range 1500 {
			if r.IntN(10) == 0 {
				x.server.encoder.SetMaxDynamicTableSize([]uint32{0, 60, 100, 500, 4096}[r.IntN(5)])
			}
			status, code := 200+r.IntN(400), -1
			if r.IntN(2) == 0 {
				status = []int{200, 201, 429, 503}[r.IntN(4)]
			}
			fields := []string{":status", strconv.Itoa(status)}
			for range r.IntN(4) {
				fields = append(fields, fmt.Sprint("x-", r.IntN(20)), strings.Repeat("v", r.IntN(200)))
			}
			if r.IntN(2) == 0 {
				code = r.IntN(GRPCCodes)
				fields = append(fields, "grpc-status", strconv.Itoa(code))
			}
			x.reply(status, code, x.server.block(fields...))
		}
	}}
	runCases(t, map[string]h2Case{"once": random, "again": random, "and again": random})
}
