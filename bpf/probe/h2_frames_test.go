package probe

import (
	"testing"

	"golang.org/x/net/http2"
)

// question and reply are header blocks that refer to no dynamic table.
var (
	question = []byte{0x82, 0x86, 0x84, 0x01, 1, 'x', 0x00, 6, 'x', '-', 'n', 'a', 'm', 'e', 2, 'a', 'b'}
	reply    = []byte{0x08, 3, '5', '0', '3', 0x00, 11, 'g', 'r', 'p', 'c', '-', 's', 't', 'a', 't', 'u', 's', 2, '1', '4'}
)

// failing is n answers of reply's.
func failing(n uint64) tally {
	return tally{classes: classes{5: n}, grpc: [GRPCCodes]uint64{14: n}}
}

// cutHead writes a header block in a HEADERS frame and CONTINUATIONs.
func (p *peer) cutHead(stream uint32, parts ...[]byte) {
	last := len(parts) - 1
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: parts[0], EndStream: true, EndHeaders: last == 0})
	for i, part := range parts[1:] {
		_ = p.WriteContinuation(stream, i+1 == last, part)
	}
}

func TestEveryShapeOfFrameIsFollowed(t *testing.T) {
	shapes := []http2.HeadersFrameParam{
		{PadLength: 1},
		{PadLength: 255},
		{Priority: http2.PriorityParam{StreamDep: 1, Weight: 15}},
		{Priority: http2.PriorityParam{StreamDep: 1, Exclusive: true, Weight: 255}, PadLength: 7},
	}
	runCases(t, map[string]h2Case{
		"padded and prioritised heads": {want: failing(4), do: func(x *pair) {
			for i, shape := range shapes {
				shape.StreamID, shape.EndHeaders, shape.EndStream = uint32(2*i+1), true, true
				shape.BlockFragment = question
				_ = x.client.WriteHeaders(shape)
				x.client.flush()
				shape.BlockFragment = reply
				_ = x.server.WriteHeaders(shape)
				x.server.flush()
			}
		}},
		"a padded frame with a pad of nothing": {want: failing(1), do: func(x *pair) {
			_ = x.client.WriteRawFrame(http2.FrameHeaders, 0x1|0x4|0x8, 1, append([]byte{0}, question...))
			x.client.flush()
			_ = x.server.WriteRawFrame(http2.FrameHeaders, 0x1|0x4|0x8, 1, append([]byte{0}, reply...))
			x.server.flush()
		}},
		"padded bodies, and an end without a byte": {want: failing(2), do: func(x *pair) {
			for _, stream := range []uint32{1, 3} {
				x.client.rawHead(stream, false, question)
				_ = x.client.WriteDataPadded(stream, false, make([]byte, 10), make([]byte, 200))
				_ = x.client.WriteDataPadded(stream, true, nil, make([]byte, 200))
				x.client.flush()
				x.server.rawHead(stream, false, reply)
				_ = x.server.WriteDataPadded(stream, false, make([]byte, 10), make([]byte, 200))
				x.server.body(stream, true, 0)
				x.server.flush()
			}
		}},
	})
}

func TestFramesThatDoNotMatterArePassedOver(t *testing.T) {
	noise := func(p *peer) {
		_ = p.WritePing(false, [8]byte{1})
		_ = p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		_ = p.WriteWindowUpdate(0, 1000)
		_ = p.WritePriority(3, http2.PriorityParam{StreamDep: 1})
		_ = p.WriteRawFrame(0xfa, 0xff, 77, make([]byte, 300))
		_ = p.WriteRawFrame(0x0a, 0, 0, nil)
	}
	runCases(t, map[string]h2Case{
		"other frames in between": {want: failing(3), do: func(x *pair) {
			for _, stream := range []uint32{1, 3, 5} {
				noise(x.client)
				x.client.rawHead(stream, true, question)
				noise(x.client)
				x.client.flush()
				noise(x.server)
				x.server.rawHead(stream, false, reply)
				noise(x.server)
				x.server.body(stream, true, 0)
				x.server.flush()
			}
		}},
		"a flood of WINDOW_UPDATE": {want: failing(1), do: func(x *pair) {
			for range 20_000 {
				_ = x.client.WriteWindowUpdate(0, 1)
			}
			x.client.rawHead(1, true, question)
			x.client.flush()
			x.server.rawHead(1, true, reply)
			x.server.flush()
		}},
		"CONTINUATION of nothing": {want: failing(2), do: func(x *pair) {
			for _, stream := range []uint32{1, 3} {
				x.client.cutHead(stream, nil, question, nil, nil)
				x.client.flush()
				x.server.cutHead(stream, nil, nil, reply[:4], nil, reply[4:], nil)
				x.server.flush()
			}
		}},
		"CONTINUATION byte by byte": {want: failing(1), do: func(x *pair) {
			x.client.cutHead(1, bytesOf(question)...)
			x.client.flush()
			x.server.cutHead(1, bytesOf(reply)...)
			x.server.flush()
		}},
	})
}

// bytesOf cuts b into bytes.
func bytesOf(b []byte) (parts [][]byte) {
	for i := range b {
		parts = append(parts, b[i:i+1])
	}
	return parts
}

// TestHeadsCutInEveryPlaceAreRead cuts a header block in every place over two
// frames, and these in every place over two segments.
func TestHeadsCutInEveryPlaceAreRead(t *testing.T) {
	var stream uint32 = 1
	var want uint64
	cut := func(x *pair, p *peer, block []byte, then func()) {
		for at := range block {
			for i := 1; ; i++ {
				p.cutHead(stream, block[:at], block[at:])
				all := p.out.Bytes()
				if i == len(all) {
					p.out.Reset()
					break
				}
				if p == x.server {
					then()
				}
				p.send(all[:i], all[i:])
				p.out.Reset()
				if p == x.client {
					then()
				}
				stream += 2
				want++
			}
		}
	}
	s := start(t)
	p := s.watch(t, Options{})
	x := s.pair(t, "127.0.1.1")
	x.greet()
	cut(x, x.client, question, func() {
		x.server.rawHead(stream, true, reply)
		x.server.flush()
	})
	cut(x, x.server, reply, func() {
		x.client.rawHead(stream, true, question)
		x.client.flush()
	})
	if got := tallyAt(t, p, x.addr, Loss{}); got != failing(want) {
		t.Errorf("counted %+v, want %+v", got, failing(want))
	}
}

// TestAConnectionCutInEveryPlaceIsCounted cuts all that a short connection says,
// from the third byte on: after "P" or "PR" it may be any protocol, so such a
// connection is published as not measured.
func TestAConnectionCutInEveryPlaceIsCounted(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	record := &pair{client: newPeer(t, nil, nil), server: newPeer(t, nil, nil)}
	record.client.out.WriteString(http2.ClientPreface)
	_ = record.client.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	_ = record.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: question, EndHeaders: true, PadLength: 3})
	record.client.body(1, true, 5)
	record.client.rawHead(3, true, question)
	_ = record.server.WriteSettings()
	_ = record.server.WriteSettingsAck()
	record.server.rawHead(1, false, reply)
	record.server.body(1, true, 9)
	_ = record.server.WriteRSTStream(3, http2.ErrCodeInternal)
	sent, back := record.client.out.Bytes(), record.server.out.Bytes()

	want := failing(0)
	count := func(client, server [][]byte) {
		x := s.pair(t, "127.0.1.1")
		x.client.send(client...)
		x.server.send(server...)
		_ = x.server.conn.Close()
		_ = x.client.conn.Close()
		want.classes[5]++
		want.grpc[14]++
		want.aborted++
		if got := tallyAt(t, p, x.addr, Loss{}); got != want {
			t.Fatalf("in %d and %d segments, the first of %d and %d bytes: counted %+v, want %+v", len(client), len(server), len(client[0]), len(server[0]), got, want)
		}
	}
	count([][]byte{sent}, [][]byte{back})
	for at := 1; at < len(back); at++ {
		count([][]byte{sent}, [][]byte{back[:at], back[at:]})
	}
	for at := 3; at < len(sent); at++ {
		count([][]byte{sent[:at], sent[at:]}, [][]byte{back})
	}
	count(append([][]byte{sent[:3]}, bytesOf(sent[3:])...), bytesOf(back))
}
