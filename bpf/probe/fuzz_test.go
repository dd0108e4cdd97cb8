package probe

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/net/http2"
)

// stage is where sessions are played: the test is both ends of a connection whose
// server's end is measured.
type stage struct {
	*arena
	l     net.Listener
	other *bystander
	count int
}

func newStage(t testing.TB) *stage {
	a := newArena(t, Options{})
	return &stage{arena: a, l: a.listen(t, "127.0.0.1:0"), other: a.bystander(t)}
}

// play sends what client and server say on a new connection, in pieces and in an
// order that seed decides, and then closes it in one of several ways. It ends when
// the kernel has closed it.
func (s *stage) play(t testing.TB, client, server []byte, seed uint64) {
	t.Helper()
	near, err := net.Dial("tcp", s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := s.l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	_ = near.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: ports are few
	r := rand.New(rand.NewPCG(seed, 1))
	for len(client)+len(server) > 0 {
		from, to, rest := near, far, &client
		if len(client) == 0 || len(server) > 0 && r.IntN(2) == 0 {
			from, to, rest = far, near, &server
		}
		n := min(1+r.IntN(1<<(1+r.IntN(13))), len(*rest))
		hand(t, from, to, (*rest)[:n])
		*rest = (*rest)[n:]
	}
	switch r.IntN(3) {
	case 0:
		_ = far.Close()
	case 1:
		_ = far.(*net.TCPConn).SetLinger(0)
		_ = far.Close()
	}
}

// hand sends bytes and waits until they are there.
func hand(t testing.TB, from, to net.Conn, b []byte) {
	t.Helper()
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, make([]byte, len(b))); err != nil {
		t.Fatal(err)
	}
}

// check demands that a session has harmed nobody and has counted nothing that
// was not there.
func (s *stage) check(t testing.TB, before Counts, lost Loss, server []byte) {
	t.Helper()
	addr := s.l.Addr().String()
	got, loss := s.settledSince(t, addr, before), s.loss(t)
	invariants(t, before, got)
	most := uint64(bytes.Count(server, []byte("HTTP/1.")) + len(server)/10) // an answer of HTTP/2 has ten bytes or more
	if n := got.Requests - before.Requests; n > most {
		t.Errorf("counted %d answers, the server sent %d at most", n, most)
	}
	if got.Requests < before.Requests || got.Begun < before.Begun || got.Aborted < before.Aborted || got.Aborted > 1<<40 {
		t.Errorf("counters went from %+v to %+v", before, got)
	}
	for _, n := range [][2]uint64{{lost.Requests, loss.Requests}, {lost.Unmeasured, loss.Unmeasured}, {lost.Desynced, loss.Desynced}, {lost.Older, loss.Older}} {
		if n[1] < n[0] {
			t.Errorf("the loss went from %+v to %+v", lost, loss)
		}
	}
	if s.count++; s.count%50 == 0 {
		s.other.unharmed(t)
		if snap, _ := s.p.Snapshot(); len(snap.Workloads) != 2 {
			t.Errorf("%d workloads, want 2", len(snap.Workloads))
		}
	}
}

// say plays a session and checks it.
func (s *stage) say(t testing.TB, client, server []byte, seed uint64) {
	t.Helper()
	before, lost := s.of(t, s.l.Addr().String()), s.loss(t)
	s.play(t, client, server, seed)
	s.check(t, before, lost, server)
}

// rawFrameOf is one of HTTP/2 that says that it has n bytes.
func rawFrameOf(n int, kind, flags byte, stream uint32, payload string) string {
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), kind, flags, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[5:], stream)
	return string(head) + payload
}

// Whole frames of some kinds. rawAsk is a request without a body, rawTell its answer.
func rawFrame(kind, flags byte, stream uint32, payload string) string {
	return rawFrameOf(len(payload), kind, flags, stream, payload)
}
func rawAsk(stream uint32) string    { return rawFrame(1, 5, stream, "\x82\x84\x86\x41\x01x") }
func rawTell(stream uint32) string   { return rawFrame(1, 5, stream, "\x88") }
func rawCancel(stream uint32) string { return rawFrame(3, 0, stream, "\x00\x00\x00\x08") }

const hello = http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" // and empty SETTINGS

// session is what both ends of a connection say.
type session struct{ client, server string }

// sessions are where fuzzing begins: well-formed ones and known attacks.
var sessions = []session{
	{get("/"), "HTTP/1.1 604 No\r\n\r\n"},
	{get("/"), "HTTP/1.1 799 No\r\n\r\n"},
	{get("/"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
	{strings.Repeat(get("/"), 3), strings.Repeat("HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\nx", 3)},
	{post("/", get("/")), "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
	{"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n1\r\na\r\n0\r\n\r\n", "HTTP/1.1 404 No\r\n\r\n"},
	{"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nGET", "HTTP/1.1 101 Go\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"},
	{get("/"), strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 3000) + "HTTP/1.1 200 OK\r\n\r\n"},
	{get("/"), "HTTP/1.1 200 " + strings.Repeat("O", 16_384) + "\r\n\r\n"},
	{get("/"), strings.Repeat("HTTP/1.1 200 OK\r\n\r\n", 500)},
	{get("/"), "HTTP/1.1 999 No\r\n\r\nHTTP/1.1 000 No\r\n\r\nHTTP/9.9 200 OK\r\n\r\n"},
	{"\x16\x03\x01\x00\x05hello", "\x15\x03\x01\x00\x02\x02\x28"},
	{"", "HTTP/1.1 408 Slow\r\n\r\n"},
	{hello + rawAsk(1) + rawAsk(3), rawFrame(4, 0, 0, "") + rawTell(1) + rawTell(3)},
	{hello + rawAsk(1), rawTell(1) + rawTell(1) + rawTell(1)},
	{hello + rawCancel(0) + rawCancel(0) + rawAsk(1) + rawCancel(1) + rawCancel(1), rawTell(0) + rawTell(1) + rawCancel(0)},
	{hello + rawAsk(0) + rawAsk(2) + rawAsk(0x7fffffff) + rawAsk(1), rawTell(0x7fffffff) + rawTell(2)},
	{hello + strings.Repeat(rawAsk(1)+rawCancel(1), 300), strings.Repeat(rawTell(1), 300)},
	{hello + strings.Repeat(rawFrame(6, 0, 0, "12345678")+rawFrame(4, 0, 0, ""), 300), strings.Repeat(rawFrame(4, 1, 0, ""), 300)},
	{hello + rawFrame(1, 1, 1, "\x82\x84") + strings.Repeat(rawFrame(9, 0, 1, "\x00\x01a\x01b"), 500), rawTell(1)},
	{hello + rawFrame(1, 5, 1, "\x7f\xff\xff\xff\xff\xff\xff") + rawAsk(3), rawFrame(1, 5, 1, "\x48\xff\xff\xff\xff\xff\xff") + rawTell(3)},
	{hello + rawFrame(1, 5, 1, "\x3f\xff\xff\xff\xff\x0f\x82\x84\x86"), rawFrame(1, 4, 1, "\x88") + rawFrame(0, 1, 1, strings.Repeat("x", 20_000))},
	{hello + rawFrameOf(0xffffff, 0, 0, 1, "x") + rawAsk(1), rawFrameOf(1, 1, 5, 1, "\x88\x88\x88")},
	{hello + rawFrameOf(3, 3, 0, 1, "xxx") + rawFrameOf(0, 1, 0x2d, 1, "") + rawFrame(1, 0x2d, 3, "\xff\x00\x00\x00\x00\x82"), rawTell(1)},
	{hello + rawAsk(1), rawFrame(1, 4, 1, "\x88\x40\x0bgrpc-status\x0214") + rawFrame(1, 5, 1, "\x7e\xbe") + rawFrame(5, 4, 1, "\x00\x00\x00\x02\x82")},
}

// FuzzSessions looks for what two ends of a connection can say to each other, cut
// and mixed in any way, that breaks the counters. Its seeds run with every test.
func FuzzSessions(f *testing.F) {
	s := newStage(f)
	for i, x := range sessions {
		for cut := range 3 {
			f.Add([]byte(x.client), []byte(x.server), uint64(3*i+cut))
		}
	}
	f.Fuzz(func(t *testing.T, client, server []byte, seed uint64) { s.say(t, client, server, seed) })
}

// scramble makes a session of pieces of others, with some bytes changed.
func scramble(r *rand.Rand) (client, server []byte) {
	side := func(of func(session) string) (b []byte) {
		for range 1 + r.IntN(4) {
			x := of(sessions[r.IntN(len(sessions))])
			from := r.IntN(len(x) + 1)
			if r.IntN(2) == 0 {
				from = 0
			}
			b = append(b, x[from:from+r.IntN(min(len(x)-from, 3000)+1)]...)
		}
		for range r.IntN(4) {
			if len(b) > 0 {
				b[r.IntN(len(b))] = byte(r.UintN(256))
			}
		}
		return b
	}
	client = side(func(x session) string { return x.client })
	if r.IntN(2) == 0 {
		client = append([]byte(hello), client...)
	}
	return client, side(func(x session) string { return x.server })
}

func TestScrambledSessionsBreakNoCounter(t *testing.T) {
	s := newStage(t)
	r := rand.New(rand.NewPCG(2026, 7))
	for i := range 1500 {
		client, server := scramble(r)
		s.say(t, client, server, uint64(i))
		if t.Failed() {
			t.Fatalf("session %d: %.200q and %.200q", i, client, server)
		}
	}
}

// packet is an Ethernet frame, as the kernel's test runs want it, of a TCP segment.
func packet(ip []byte, tcpHead string, payload string) []byte {
	kind := "\x08\x00"
	if len(ip) > 0 && ip[0]>>4 == 6 {
		kind = "\x86\xdd"
	}
	return append(append([]byte("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02"+kind), ip...), tcpHead+payload...)
}

// Headers of packets from port 40000 to 80.
const (
	ipv4 = "\x45\x00\x00\x40\x00\x00\x40\x00\x40\x06\x00\x00\x0a\x00\x00\x01\x0a\x00\x00\x02"
	ipv6 = "\x60\x00\x00\x00\x00\x40\x06\x40\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"
	tcp  = "\x9c\x40\x00\x50\x00\x00\x00\x01\x00\x00\x00\x01\x50\x18\xff\xff\x00\x00\x00\x00"
)

// packets are where the fuzzing of packets begins.
func packets() [][]byte {
	optioned := []byte(ipv4 + "\x01\x01\x01\x00")
	optioned[0] = 0x46
	hopped := append([]byte(ipv6), "\x06\x00\x01\x04\x00\x00\x00\x00"...)
	hopped[6] = 0
	far := []byte(tcp)
	far[12] = 0xf0
	return [][]byte{
		packet([]byte(ipv4), tcp, get("/")),
		packet([]byte(ipv6), tcp, get("/")),
		packet(optioned, tcp, get("/")),
		packet(hopped, tcp, get("/")),
		packet([]byte(ipv4), string(far), get("/")),
		packet([]byte(ipv4), tcp, strings.Repeat(get("/"), 60)),
		packet([]byte(ipv4), tcp, post("/", strings.Repeat(get("/"), 20))+get("/")),
		packet([]byte(ipv6), tcp, hello+rawAsk(1)+rawAsk(3)+rawCancel(1)),
		packet([]byte(ipv6), tcp[:12], ""),
		packet([]byte(ipv4), tcp, ""),
	}
}

// bench runs single packets through the programs, each with a socket of its own
// that the kernel makes (and frees): what is read is one segment of a connection
// that was not seen before.
type bench struct {
	*arena
	other *bystander
}

func newBench(t testing.TB) *bench {
	b := &bench{arena: newArena(t, Options{Workloads: 64})}
	b.other = b.bystander(t)
	b.other.unharmed(t) // it has its slot: packets may come from anywhere and take the others
	return b
}

func (b *bench) run(t testing.TB, packet []byte) {
	t.Helper()
	for _, name := range []string{"ingress", "egress"} {
		verdict, err := b.p.coll.Programs[name].Run(&ebpf.RunOptions{Data: packet, Repeat: 2})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if verdict != 1 {
			t.Fatalf("%s says %d: the packet does not pass", name, verdict)
		}
	}
}

// The kernel makes test runs only of packets with a whole IP header.
const leastPacket, mostPacket = 14 + 40, 3000

// FuzzPackets looks for a packet that the programs do not let pass.
func FuzzPackets(f *testing.F) {
	b := newBench(f)
	for _, p := range packets() {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		if len(packet) < leastPacket || len(packet) > mostPacket {
			return
		}
		b.run(t, packet)
		b.other.unharmed(t)
	})
}

func TestEveryPacketPasses(t *testing.T) {
	b := newBench(t)
	seeds := packets()
	b.run(t, seeds[0])
	if snap, _ := b.p.Snapshot(); len(snap.Workloads) != 2 {
		t.Fatalf("%d workloads after one packet, want 2: the packet was not read", len(snap.Workloads))
	}
	r := rand.New(rand.NewPCG(6, 18))
	for begin := time.Now(); time.Since(begin) < time.Second; {
		p := bytes.Clone(seeds[r.IntN(len(seeds))])
		for range 1 + r.IntN(8) {
			p[12+r.IntN(len(p)-12)] = byte(r.UintN(256))
		}
		if r.IntN(4) == 0 {
			p = p[:leastPacket+r.IntN(len(p)-leastPacket+1)]
		}
		b.run(t, p)
	}
	b.other.unharmed(t)
	if snap, _ := b.p.Snapshot(); len(snap.Workloads) > 64 {
		t.Errorf("%d workloads, want 64 at most", len(snap.Workloads))
	}
}
