package probe

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// exchanger is a client and a server on one thread: what one exchange costs is
// all on that thread's CPU clock, the softirq of the loopback included.
type exchanger struct{ client, server int }

// newExchanger makes both in the control group of this process, the client's socket
// in the one that elsewhere moves it to for that.
func newExchanger(b *testing.B, elsewhere func(func())) exchanger {
	b.Helper()
	ok := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	ok(err)
	defer unix.Close(l)
	ok(unix.Bind(l, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	ok(unix.Listen(l, 1))
	addr, err := unix.Getsockname(l)
	ok(err)
	var x exchanger
	elsewhere(func() { x.client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0) })
	ok(err)
	ok(unix.Connect(x.client, addr))
	x.server, _, err = unix.Accept4(l, unix.SOCK_CLOEXEC)
	ok(err)
	for _, fd := range []int{x.client, x.server} {
		ok(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	}
	return x
}

func (x exchanger) close() {
	_ = unix.Close(x.client)
	_ = unix.Close(x.server)
}

// talk is what client and server say in an exchange, which stands for a number of
// requests.
type talk interface {
	begin(x exchanger) // on a new connection
	next() (request, answer []byte)
	requests() int
}

// cost is the CPU time of one request: the least of some blocks of exchanges,
// because whatever disturbs a block makes it longer.
func (x exchanger) cost(b *testing.B, t talk) float64 {
	b.Helper()
	buf := make([]byte, 16<<10)
	best := 0.0
	t.begin(x)
	for range 6 {
		n := 400 / t.requests()
		begin := threadCPU(b)
		for range n {
			request, answer := t.next()
			_, _ = unix.Write(x.client, request)
			_, _ = unix.Read(x.server, buf)
			_, _ = unix.Write(x.server, answer)
			_, _ = unix.Read(x.client, buf)
		}
		if took := float64(threadCPU(b)-begin) / float64(n*t.requests()); best == 0 || took < best {
			best = took
		}
	}
	return best
}

// overHTTP1 is one request and its answer.
type overHTTP1 struct{ request, answer string }

func (overHTTP1) begin(exchanger)            {}
func (t overHTTP1) next() (req, answ []byte) { return []byte(t.request), []byte(t.answer) }
func (overHTTP1) requests() int              { return 1 }

// overHTTP2 is a number of requests at a time on one connection, each with a body of
// some bytes as an answer. Header blocks are those of a client that has asked
// before: everything that can be is in the dynamic table.
type overHTTP2 struct {
	streams         int
	request, answer []byte
	ids, ends       []int // where the numbers of the streams are
	id              uint32
}

func (t *overHTTP2) requests() int { return t.streams }

func (t *overHTTP2) begin(x exchanger) {
	t.id = 1
	var buf bytes.Buffer
	buf.WriteString(xhttp2.ClientPreface)
	ask, reply := xhttp2.NewFramer(&buf, nil), xhttp2.NewFramer(&buf, nil)
	if err := ask.WriteSettings(); err != nil {
		panic(err)
	}
	read := make([]byte, 16<<10)
	requests, answers := newFields(), newFields()
	for range 2 { // the first fills the dynamic tables, the second is kept
		t.ids, t.ends = nil, nil
		for range t.streams {
			t.ids = append(t.ids, buf.Len()+5)
			_ = ask.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: t.id, EndStream: true, EndHeaders: true,
				BlockFragment: requests.block(":method", "GET", ":scheme", "http", ":path", "/work", ":authority", "shop:8080", "user-agent", "client/1.0", "accept-encoding", "gzip"),
			})
		}
		t.request = bytes.Clone(buf.Bytes())
		buf.Reset()
		for range t.streams {
			t.ends = append(t.ends, buf.Len()+5)
			_ = reply.WriteHeaders(xhttp2.HeadersFrameParam{
				StreamID: t.id, EndHeaders: true,
				BlockFragment: answers.block(":status", "200", "content-type", "text/plain", "content-length", "6", "date", "Thu, 01 Jan 2026 00:00:00 GMT"),
			})
			t.ends = append(t.ends, buf.Len()+5)
			_ = reply.WriteData(t.id, true, []byte("hello\n"))
		}
		t.answer = bytes.Clone(buf.Bytes())
		buf.Reset()
		if t.id == 1 {
			first, answer := t.request, t.answer
			t.number()
			_, _ = unix.Write(x.client, first)
			_, _ = unix.Read(x.server, read)
			_, _ = unix.Write(x.server, answer)
			_, _ = unix.Read(x.client, read)
		}
	}
}

// number gives the streams of an exchange their numbers.
func (t *overHTTP2) number() {
	for i := range t.streams {
		binary.BigEndian.PutUint32(t.request[t.ids[i]:], t.id)
		binary.BigEndian.PutUint32(t.answer[t.ends[2*i]:], t.id)
		binary.BigEndian.PutUint32(t.answer[t.ends[2*i+1]:], t.id)
		t.id += 2
	}
}

func (t *overHTTP2) next() (request, answer []byte) {
	t.number()
	return t.request, t.answer
}

// headerFields writes header blocks.
type headerFields struct {
	buf bytes.Buffer
	enc *hpack.Encoder
}

func newFields() *headerFields {
	f := &headerFields{}
	f.enc = hpack.NewEncoder(&f.buf)
	return f
}

func (f *headerFields) block(pairs ...string) []byte {
	f.buf.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = f.enc.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(f.buf.Bytes())
}

func threadCPU(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

// attachEmpty attaches two programs that do nothing: the floor.
func attachEmpty(b *testing.B, group string) func() {
	var links []link.Link
	for _, attach := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: attach, Program: impostor(b, attach)})
		if err != nil {
			b.Fatal(err)
		}
		links = append(links, l)
	}
	return func() {
		for _, l := range links {
			_ = l.Close()
		}
	}
}

func attachProbe(b *testing.B, group string) func() {
	p, err := Load(Object(), bpf.DigestOf(Object()), Options{})
	if err != nil {
		b.Fatal(err)
	}
	if err := p.Attach(group); err != nil {
		b.Fatal(err)
	}
	return func() {
		if got, _ := total(b, p); got.Requests < 400 {
			b.Errorf("the probe counted %d", got.Requests)
		}
		_ = p.Close()
	}
}

// BenchmarkOverhead measures what the probe adds to a request: exchanges with
// and without it in turn, and the median of the differences of neighbours.
func BenchmarkOverhead(b *testing.B) {
	testenv.NeedRoot(b)
	const answer = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\nContent-Length: 6\r\nContent-Type: text/plain\r\n\r\nhello\n"
	headers := "User-Agent: " + strings.Repeat("Mozilla/5.0 ", 10) + "\r\nAccept: text/html\r\nAccept-Language: en\r\nAccept-Encoding: gzip\r\nReferer: http://example.org/\r\nCookie: " + strings.Repeat("session=1; ", 30) + "\r\n"
	short := overHTTP1{"GET / HTTP/1.1\r\nHost: x\r\nUser-Agent: wrk\r\n\r\n", answer}
	for _, c := range []struct {
		name      string
		talk      talk
		elsewhere bool // the client is not in the measured group
	}{
		{"short request", short, false},
		{"short request from elsewhere", short, true},
		{"browser request", overHTTP1{"GET /index.html HTTP/1.1\r\nHost: example.org\r\n" + headers + "\r\n", answer}, false},
		{"h2c, 1 stream", &overHTTP2{streams: 1}, false},
		{"h2c, 20 streams", &overHTTP2{streams: 20}, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			group := testenv.TempCgroup(b)
			home := moveInto(b, group)
			elsewhere := func(do func()) {
				if c.elsewhere {
					join(b, home)
					defer join(b, group)
				}
				do()
			}
			measure := func(attach func(*testing.B, string) func()) float64 {
				defer attach(b, group)()
				x := newExchanger(b, elsewhere)
				defer x.close()
				return x.cost(b, c.talk)
			}
			var floor, probe []float64
			for b.Loop() {
				none := measure(func(*testing.B, string) func() { return func() {} })
				floor = append(floor, measure(attachEmpty)-none)
				probe = append(probe, measure(attachProbe)-none)
			}
			b.ReportMetric(0, "ns/op") // of a round: says nothing
			b.ReportMetric(median(floor), "ns/request-empty")
			b.ReportMetric(median(probe), "ns/request-probe")
			b.ReportMetric(median(probe)*5000/1e9*100, "%core-at-5000/s")
		})
	}
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

func BenchmarkCheck(b *testing.B) {
	p := start(b).watch(b, Options{})
	for b.Loop() {
		if err := p.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	s := start(b)
	p := s.watch(b, Options{})
	c := dial(b, s.v4)
	c.send(get("/"))
	c.answers(1, "GET")
	for b.Loop() {
		if _, err := p.Snapshot(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSwap(b *testing.B) {
	p := start(b).watch(b, Options{})
	for b.Loop() {
		if err := p.Swap(Object(), p.Digest()); err != nil {
			b.Fatal(err)
		}
	}
}
