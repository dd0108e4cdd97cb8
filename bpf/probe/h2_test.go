package probe

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// pair is a connection of HTTP/2 of which the test is both ends. The server's
// belongs to the service, at a local address that nobody else uses.
type pair struct {
	t              testing.TB
	addr           string
	client, server *peer
	want           tally  // what the probe is to count of it
	stream         uint32 // of the last request of reply's
}

// peer collects frames. What it sends at a time is one segment.
type peer struct {
	*http2.Framer
	t         testing.TB
	conn, far net.Conn
	out       bytes.Buffer
	encoded   bytes.Buffer
	encoder   *hpack.Encoder
}

// pair connects to the raw listener at an address of 127/8.
func (s *service) pair(t testing.TB, ip string) *pair {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.raw.Addr().String())
	x := &pair{t: t, addr: net.JoinHostPort(ip, port)}
	client := dial(t, x.addr).Conn
	server, err := s.raw.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	_ = server.SetDeadline(time.Now().Add(2 * patience))
	x.client, x.server = newPeer(t, client, server), newPeer(t, server, client)
	return x
}

func newPeer(t testing.TB, conn, far net.Conn) *peer {
	p := &peer{t: t, conn: conn, far: far}
	p.Framer = http2.NewFramer(&p.out, nil)
	p.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.encoded)
	return p
}

// greet sends what a connection begins with.
func (x *pair) greet() {
	x.client.out.WriteString(http2.ClientPreface)
	_ = x.client.WriteSettings()
	x.client.flush()
	_ = x.server.WriteSettings()
	_ = x.server.WriteSettingsAck()
	x.server.flush()
}

// flush sends what was written as one segment (if it is not too long for one),
// and returns when the other end has it.
func (p *peer) flush() {
	p.t.Helper()
	p.send(p.out.Bytes())
	p.out.Reset()
}

// send sends each part as a segment.
func (p *peer) send(parts ...[]byte) {
	p.t.Helper()
	for _, part := range parts {
		arrived := make(chan error, 1)
		go func() {
			_, err := io.CopyN(io.Discard, p.far, int64(len(part)))
			arrived <- err
		}()
		if _, err := p.conn.Write(part); err != nil {
			p.t.Fatal(err)
		}
		if err := <-arrived; err != nil {
			p.t.Fatal(err)
		}
	}
}

// block encodes names and values as an encoder of Go does.
func (p *peer) block(fields ...string) []byte {
	p.encoded.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(p.encoded.Bytes())
}

// head writes a HEADERS frame; a block of no encoder's goes into raw.
func (p *peer) head(stream uint32, end bool, fields ...string) {
	p.rawHead(stream, end, p.block(fields...))
}

func (p *peer) rawHead(stream uint32, end bool, block []byte) {
	_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndStream: end, EndHeaders: true})
}

// body writes a DATA frame.
func (p *peer) body(stream uint32, end bool, n int) { _ = p.WriteData(stream, end, make([]byte, n)) }

// ask sends a request without a body.
func (x *pair) ask(stream uint32) {
	x.client.head(stream, true, ":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/")
	x.client.flush()
}

// answer sends an answer without a body.
func (x *pair) answer(stream uint32, status string) {
	x.server.head(stream, true, ":status", status)
	x.server.flush()
}

// hangUp closes the connection from the client's side.
func (x *pair) hangUp() { _ = x.client.conn.Close() }

// tally is what a case is wanted to have counted.
type tally struct {
	classes            classes
	grpc               [GRPCCodes]uint64
	aborted, truncated uint64
	open               uint64 // requests in flight
	loss               Loss   // but for exemplars
}

// tallyAt is what was counted at an address, and lost since before.
func tallyAt(t testing.TB, p *Probe, addr string, before Loss) (got tally) {
	t.Helper()
	snap, err := p.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for w, c := range snap.Workloads {
		if w.Addr != netip.MustParseAddrPort(addr) {
			continue
		}
		got = tally{classes: c.Classes, grpc: c.GRPC, aborted: c.Aborted, truncated: c.Truncated, open: c.InFlight()}
		if n := c.Latency.Count(); n != c.Requests {
			t.Errorf("%d requests, %d of them in the histogram", c.Requests, n)
		}
	}
	got.loss = Loss{
		Requests: snap.Loss.Requests - before.Requests, Unmeasured: snap.Loss.Unmeasured - before.Unmeasured,
		Desynced: snap.Loss.Desynced - before.Desynced, Older: snap.Loss.Older - before.Older,
	}
	return got
}

// h2Case is what happens on one connection, and what is counted of it.
type h2Case struct {
	want tally
	do   func(x *pair)
}

// runCases gives each case an address of its own.
func runCases(t *testing.T, cases map[string]h2Case) {
	t.Helper()
	s := start(t)
	p := s.watch(t, Options{})
	next := netip.MustParseAddr("127.0.1.1")
	for name, tt := range cases {
		next = next.Next()
		t.Run(name, func(t *testing.T) {
			snap, err := p.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			x := s.pair(t, next.String())
			x.greet()
			x.want = tt.want
			tt.do(x)
			var got tally
			for range 100 { // the end of a connection is seen a little later
				if got = tallyAt(t, p, x.addr, snap.Loss); got == x.want {
					return
				}
				time.Sleep(5 * time.Millisecond)
			}
			t.Errorf("counted %+v, want %+v", got, x.want)
		})
	}
}
