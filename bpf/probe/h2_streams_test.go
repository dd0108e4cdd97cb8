package probe

import (
	"testing"

	"golang.org/x/net/http2"
)

func TestEveryStreamIsCounted(t *testing.T) {
	runCases(t, map[string]h2Case{
		"one after the other": {want: tally{classes: oks(300)}, do: func(x *pair) {
			for i := range uint32(300) {
				x.ask(2*i + 1)
				x.answer(2*i+1, "200")
			}
		}},
		"250 at once, the last is answered first": {want: tally{classes: oks(250)}, do: func(x *pair) {
			for i := range uint32(250) {
				x.ask(2*i + 1)
			}
			for i := range uint32(250) {
				x.answer(2*(249-i)+1, "200")
			}
		}},
		"250 in one segment, their answers too": {want: tally{classes: oks(250)}, do: func(x *pair) {
			for i := range uint32(250) {
				x.client.head(2*i+1, true, ":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/",
					"user-agent", "test", "accept", "*/*", "accept-encoding", "gzip", "te", "trailers")
				x.server.head(2*i+1, false, ":status", "200", "content-type", "text/plain", "date", "today")
				x.server.body(2*i+1, true, 10)
			}
			x.client.flush()
			x.server.flush()
		}},
		"numbers with gaps": {want: tally{classes: oks(4)}, do: func(x *pair) {
			for _, stream := range []uint32{1, 101, 9999, 1<<23 + 1} {
				x.ask(stream)
				x.answer(stream, "200")
			}
		}},
		"some stay open while others come and go": {want: tally{classes: oks(620), open: 20}, do: func(x *pair) {
			for i := range uint32(640) {
				x.ask(2*i + 1)
				if i >= 20 {
					x.answer(2*i+1, "200")
				}
			}
		}},
		"half of the places are taken while others come and go": {want: tally{classes: oks(2000), open: 128}, do: func(x *pair) {
			for i := range uint32(2128) {
				x.ask(2*i + 1)
				if i >= 128 {
					x.answer(2*i+1, "200")
				}
			}
		}},
		"more at a time than there is room for": {want: tally{classes: oks(256 + 10), loss: Loss{Requests: 44}}, do: func(x *pair) {
			for i := range uint32(300) {
				x.ask(2*i + 1)
			}
			for i := range uint32(300) {
				x.answer(2*i+1, "200")
			}
			for i := range uint32(10) {
				x.ask(2*i + 601)
				x.answer(2*i+601, "200")
			}
		}},
	})
}

func TestWhateverItsFramesAStreamIsCounted(t *testing.T) {
	runCases(t, map[string]h2Case{
		"bodies both ways": {want: tally{classes: oks(1)}, do: func(x *pair) {
			x.client.head(1, false, ":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/")
			for i := range 30 {
				x.client.body(1, i == 29, 16384)
				x.client.flush()
			}
			x.server.head(1, false, ":status", "200")
			for i := range 30 {
				x.server.body(1, i == 29, 16384)
			}
			x.server.flush()
		}},
		"answered before the body has come": {want: tally{classes: classes{4: 1}}, do: func(x *pair) {
			x.client.head(1, false, ":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/")
			x.client.flush()
			x.answer(1, "413")
			_ = x.server.WriteRSTStream(1, http2.ErrCodeNo)
			x.server.flush()
			x.client.body(1, true, 5000)
			x.client.flush()
		}},
		"trailers both ways": {want: tally{classes: oks(2)}, do: func(x *pair) {
			for _, stream := range []uint32{1, 3} {
				x.client.head(stream, false, ":method", "POST", ":scheme", "http", ":authority", "x", ":path", "/")
				x.client.body(stream, false, 10)
				x.client.head(stream, true, "x-sum", "1")
				x.client.flush()
				x.server.head(stream, false, ":status", "200")
				x.server.body(stream, false, 10)
				x.server.head(stream, true, "x-sum", "1")
				x.server.flush()
			}
		}},
		"1xx is not the answer": {want: tally{classes: classes{2: 1, 4: 1}}, do: func(x *pair) {
			for i, status := range []string{"200", "404"} {
				stream := uint32(2*i + 1)
				x.ask(stream)
				x.server.head(stream, false, ":status", "103", "link", "x")
				x.server.head(stream, false, ":status", "100")
				x.server.head(stream, true, ":status", status)
				x.server.flush()
			}
		}},
		"nothing but 1xx is no answer": {want: tally{open: 1}, do: func(x *pair) {
			x.ask(1)
			x.server.head(1, false, ":status", "103")
			x.server.flush()
		}},
	})
}

func TestStreamsThatEndEarlyAreTold(t *testing.T) {
	runCases(t, map[string]h2Case{
		"reset by the client before the answer": {want: tally{classes: oks(1), aborted: 1}, do: func(x *pair) {
			x.ask(1)
			x.ask(3)
			_ = x.client.WriteRSTStream(1, http2.ErrCodeCancel)
			x.client.flush()
			x.answer(3, "200")
		}},
		"reset by the server before the answer": {want: tally{classes: oks(1), aborted: 1}, do: func(x *pair) {
			x.ask(1)
			x.ask(3)
			_ = x.server.WriteRSTStream(1, http2.ErrCodeRefusedStream)
			x.answer(3, "200")
		}},
		"reset by the client after the answer's head": {want: tally{classes: oks(1)}, do: func(x *pair) {
			x.ask(1)
			x.server.head(1, false, ":status", "200")
			x.server.flush()
			_ = x.client.WriteRSTStream(1, http2.ErrCodeCancel)
			x.client.flush()
		}},
		"reset by the server after the answer's head": {want: tally{classes: oks(1), truncated: 1}, do: func(x *pair) {
			x.ask(1)
			x.server.head(1, false, ":status", "200")
			x.server.body(1, false, 100)
			_ = x.server.WriteRSTStream(1, http2.ErrCodeInternal)
			x.server.flush()
		}},
		"reset by either when all is over": {want: tally{classes: oks(2)}, do: func(x *pair) {
			x.ask(1)
			x.answer(1, "200")
			x.ask(3)
			x.answer(3, "200")
			_ = x.server.WriteRSTStream(1, http2.ErrCodeInternal)
			x.server.flush()
			_ = x.client.WriteRSTStream(3, http2.ErrCodeCancel)
			x.client.flush()
		}},
		"the answer crosses the client's reset": {want: tally{classes: oks(1), aborted: 1}, do: func(x *pair) {
			x.ask(1)
			_ = x.client.WriteRSTStream(1, http2.ErrCodeCancel)
			x.client.flush()
			x.answer(1, "200")
			x.ask(3)
			x.answer(3, "200")
		}},
		"reset twice": {want: tally{aborted: 1}, do: func(x *pair) {
			x.ask(1)
			_ = x.client.WriteRSTStream(1, http2.ErrCodeCancel)
			x.client.flush()
			_ = x.server.WriteRSTStream(1, http2.ErrCodeCancel)
			x.server.flush()
		}},
	})
}

func TestConnectionsThatEndEarlyAreTold(t *testing.T) {
	runCases(t, map[string]h2Case{
		"the client hangs up with five open": {want: tally{classes: oks(2), aborted: 5}, do: func(x *pair) {
			for i := range uint32(7) {
				x.ask(2*i + 1)
			}
			x.answer(1, "200")
			x.answer(5, "200")
			x.hangUp()
			_ = x.server.conn.Close()
		}},
		"the server hangs up with one open": {want: tally{aborted: 1}, do: func(x *pair) {
			x.ask(1)
			_ = x.server.WriteGoAway(0, http2.ErrCodeInternal, nil)
			x.server.flush()
			_ = x.server.conn.Close()
			x.hangUp()
		}},
		"hung up in order": {want: tally{classes: oks(1)}, do: func(x *pair) {
			x.ask(1)
			_ = x.server.WriteGoAway(1, http2.ErrCodeNo, nil)
			x.server.flush()
			x.answer(1, "200")
			x.hangUp()
			_ = x.server.conn.Close()
		}},
		"half a request is no request": {want: tally{}, do: func(x *pair) {
			x.client.out.Write([]byte{0, 0, 50, 1, 4}) // half the head of a frame
			x.client.flush()
			x.hangUp()
			_ = x.server.conn.Close()
		}},
	})
}
