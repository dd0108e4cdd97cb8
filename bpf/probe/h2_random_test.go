package probe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// player plays both ends of a connection at random, and keeps the score.
type player struct {
	*pair
	*rand.Rand
	waiting  []uint32 // requests without an answer
	answered []uint32 // answers without an end
	sending  []uint32 // requests whose body goes on
}

// TestRandomConnectionsAreCounted sends whatever frames there are in any order
// that is allowed, cut anywhere.
func TestRandomConnectionsAreCounted(t *testing.T) {
	cases := map[string]h2Case{}
	for range 30 {
		seed := rand.Uint64()
		cases[fmt.Sprintf("seed %d", seed)] = h2Case{do: func(x *pair) {
			p := &player{pair: x, Rand: rand.New(rand.NewPCG(seed, 1))}
			for range 150 {
				for range p.IntN(12) {
					p.clientMoves()
				}
				x.client.send(p.cut(x.client.take())...)
				for range p.IntN(12) {
					p.serverMoves()
				}
				x.server.send(p.cut(x.server.take())...)
			}
			x.want.aborted += uint64(len(p.waiting))
			x.hangUp()
			_ = x.server.conn.Close()
		}}
	}
	runCases(t, cases)
}

// one takes a stream out of a list.
func (p *player) one(list *[]uint32) (stream uint32, ok bool) {
	if len(*list) == 0 {
		return 0, false
	}
	i := p.IntN(len(*list))
	stream = (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return stream, true
}

// cut cuts what is to be sent into a few segments.
func (p *player) cut(all []byte) (parts [][]byte) {
	for len(all) > 0 && p.IntN(4) > 0 {
		n := 1 + p.IntN(len(all))
		parts, all = append(parts, all[:n]), all[n:]
	}
	if len(all) > 0 {
		parts = append(parts, all)
	}
	return parts
}

// fields are names and values that do not matter.
func (p *player) fields() (f []string) {
	for range p.IntN(5) {
		f = append(f, "x-"+strings.Repeat("n", p.IntN(100)), strings.Repeat("v", p.IntN(300)))
	}
	return f
}

// writeHead writes a block in frames of any number and shape.
func (p *player) writeHead(to *peer, stream uint32, end bool, fields ...string) {
	block := to.block(fields...)
	first := block
	if p.IntN(3) == 0 && len(block) > 1 {
		first = block[:p.IntN(len(block))]
	}
	rest := block[len(first):]
	head := http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: end, EndHeaders: len(rest) == 0}
	if p.IntN(3) == 0 {
		head.PadLength = uint8(p.IntN(256))
	}
	if p.IntN(3) == 0 {
		head.Priority = http2.PriorityParam{StreamDep: 1, Weight: 3}
	}
	_ = to.WriteHeaders(head)
	for len(rest) > 0 {
		n := 1 + p.IntN(len(rest))
		_ = to.WriteContinuation(stream, n == len(rest), rest[:n])
		rest = rest[n:]
	}
}

func (p *player) writeNoise(to *peer) {
	switch p.IntN(4) {
	case 0:
		_ = to.WritePing(p.IntN(2) == 0, [8]byte{})
	case 1:
		_ = to.WriteWindowUpdate(0, 1)
	case 2:
		_ = to.WriteSettings()
	case 3:
		_ = to.WriteRawFrame(http2.FrameType(0x20+p.IntN(200)), http2.Flags(p.IntN(256)), uint32(p.IntN(50)), make([]byte, p.IntN(100)))
	}
}

func (p *player) clientMoves() {
	switch p.IntN(8) {
	case 0:
		p.writeNoise(p.client)
	case 1:
		if stream, ok := p.one(&p.waiting); ok && p.IntN(3) == 0 {
			_ = p.client.WriteRSTStream(stream, http2.ErrCode(p.IntN(14)))
			p.want.aborted++
			p.sending = slices.DeleteFunc(p.sending, func(s uint32) bool { return s == stream })
		} else if ok {
			p.waiting = append(p.waiting, stream)
		}
	case 2, 3:
		stream, ok := p.one(&p.sending)
		if !ok {
			return
		}
		switch p.IntN(3) {
		case 0:
			p.client.body(stream, false, p.IntN(2000))
			p.sending = append(p.sending, stream)
		case 1:
			p.client.body(stream, true, p.IntN(2000))
		case 2:
			p.writeHead(p.client, stream, true, append(p.fields(), "x-sum", "1")...)
		}
	default:
		if len(p.waiting)+len(p.answered) >= 200 {
			return
		}
		stream := p.stream + 1
		p.stream += 2 * (1 + uint32(p.IntN(20)/19*p.IntN(300)))
		end := p.IntN(2) == 0
		p.writeHead(p.client, stream, end, append([]string{":method", "GET", ":path", "/" + strconv.Itoa(p.IntN(9))}, p.fields()...)...)
		p.waiting = append(p.waiting, stream)
		if !end {
			p.sending = append(p.sending, stream)
		}
	}
}

func (p *player) serverMoves() {
	switch p.IntN(10) {
	case 0:
		p.writeNoise(p.server)
	case 1, 2, 3:
		stream, ok := p.one(&p.answered)
		if !ok {
			return
		}
		switch p.IntN(5) {
		case 0:
			p.server.body(stream, true, p.IntN(2000))
		case 1:
			p.server.body(stream, false, p.IntN(2000))
			p.answered = append(p.answered, stream)
		case 2:
			_ = p.server.WriteRSTStream(stream, 1+http2.ErrCode(p.IntN(13)))
			p.want.truncated++
		default:
			code := p.IntN(GRPCCodes)
			p.writeHead(p.server, stream, true, append(p.fields(), "grpc-status", strconv.Itoa(code))...)
			p.want.grpc[code]++
		}
	default:
		stream, ok := p.one(&p.waiting)
		if !ok {
			return
		}
		switch p.IntN(8) {
		case 0:
			p.writeHead(p.server, stream, false, append([]string{":status", strconv.Itoa(100 + p.IntN(100))}, p.fields()...)...)
			p.waiting = append(p.waiting, stream)
		case 1:
			_ = p.server.WriteRSTStream(stream, http2.ErrCode(p.IntN(14)))
			p.want.aborted++
		default:
			status, end := 200+p.IntN(400), p.IntN(3) == 0
			p.writeHead(p.server, stream, end, append([]string{":status", strconv.Itoa(status)}, p.fields()...)...)
			p.want.classes[status/100]++
			if !end {
				p.answered = append(p.answered, stream)
			}
		}
	}
}
