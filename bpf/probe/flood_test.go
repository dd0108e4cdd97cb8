package probe

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"maps"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// pour writes to a server until it has everything or hangs up, and throws away
// what comes back. It closes the connection by a reset.
func pour(t testing.TB, addr string, write func(w io.Writer) error) {
	c := dial(t, addr)
	defer c.Close()
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(io.Discard, c) })
	w := bufio.NewWriterSize(c, 1<<15)
	if err := write(w); err == nil {
		_ = w.Flush()
		time.Sleep(20 * time.Millisecond) // the server answers what it can
	}
	_ = c.Conn.(*net.TCPConn).CloseRead()
	c.Close()
	wg.Wait()
}

// times writes what of makes n times.
func times(n int, first string, of func(i int) string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, first)
		for i := 0; i < n && err == nil; i++ {
			_, err = io.WriteString(w, of(i))
		}
		return err
	}
}

func same(s string) func(int) string { return func(int) string { return s } }

func odd(i int) uint32 { return uint32(2*i + 1) }

func TestFloodsHarmNobodyElse(t *testing.T) {
	a := newArena(t, Options{})
	other := a.bystander(t)
	for name, flood := range map[string]func(io.Writer) error{
		"random bytes": func(w io.Writer) error { _, err := io.CopyN(w, rand.Reader, 1<<20); return err },
		"random bytes after a request": func(w io.Writer) error {
			_, err := io.CopyN(w, io.MultiReader(strings.NewReader(smuggled), rand.Reader), 1<<20)
			return err
		},
		"random bytes after a preface": func(w io.Writer) error {
			_, err := io.CopyN(w, io.MultiReader(strings.NewReader(hello), rand.Reader), 1<<20)
			return err
		},
		"a header that never ends":        times(20_000, "GET / HTTP/1.1\r\n", same("A: "+strings.Repeat("b", 100)+"\r\n")),
		"a line that never ends":          times(20_000, "GET /", same(strings.Repeat("b", 100))),
		"a body that never ends":          times(2_000, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n", same(strings.Repeat(smuggled, 20))),
		"chunks that never end":           times(20_000, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", same("24\r\n"+smuggled+"\r\n")),
		"requests without reading":        times(5_000, "", same(get("/?size=100"))),
		"streams that are reset at once":  times(20_000, hello, func(i int) string { return rawAsk(odd(i)) + rawCancel(odd(i)) }),
		"a reset of stream 0":             times(1_000, hello, same(rawCancel(0))),
		"resets of streams that are none": times(1_000, hello, func(i int) string { return rawCancel(odd(i)) }),
		"streams beyond the limit":        times(5_000, hello, func(i int) string { return rawAsk(odd(i)) }),
		"streams far apart":               times(1_000, hello, func(i int) string { return rawAsk(odd(i) * 2_000_000) }),
		"even streams":                    times(1_000, hello, func(i int) string { return rawAsk(odd(i) + 1) }),
		"one stream, many times":          times(1_000, hello, same(rawAsk(1))),
		"CONTINUATION without end":        times(20_000, hello+rawFrame(1, 1, 1, "\x82\x84"), same(rawFrame(9, 0, 1, "\x00\x01a\x01b"))),
		"empty CONTINUATION":              times(20_000, hello+rawFrame(1, 1, 1, ""), same(rawFrame(9, 0, 1, ""))),
		"PING":                            times(50_000, hello, same(rawFrame(6, 0, 0, "12345678"))),
		"SETTINGS":                        times(50_000, hello, same(rawFrame(4, 0, 0, ""))),
		"PRIORITY":                        times(50_000, hello, func(i int) string { return rawFrame(2, 0, odd(i), "\x00\x00\x00\x00\x10") }),
		"unknown frames":                  times(50_000, hello, same(rawFrame(0xfe, 0xff, 7, "xxx"))),
		"empty DATA":                      times(50_000, hello+rawFrame(1, 4, 1, "\x83\x84\x86\x41\x01x"), same(rawFrame(0, 0, 1, ""))),
		"a frame of 16 MB":                times(1_000, hello+rawFrameOf(0xffffff, 0, 0, 1, ""), same(rawAsk(1))),
		"a block shorter than it says":    times(1, hello+rawFrameOf(100, 1, 5, 1, "\x82\x84"), same(rawAsk(3))),
		"padding longer than the frame":   times(1, hello+rawFrame(1, 0x0d, 1, "\xff\x82"), same(rawAsk(3))),
		"integers of all bits":            times(1_000, hello, func(i int) string { return rawFrame(1, 5, odd(i), "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f") }),
		"a name of 2³¹ bytes":             times(1_000, hello, func(i int) string { return rawFrame(1, 5, odd(i), "\x40\x7f\x80\xff\xff\xff\x07a") }),
	} {
		t.Run(name, func(t *testing.T) {
			addr := a.serve(t, mixed)
			before := a.of(t, addr) // a port may be used again
			pour(t, addr, flood)
			got := a.settledSince(t, addr, before)
			invariants(t, before, got)
			if n := got.Begun - before.Begun; n > 60_000 {
				t.Errorf("%d requests, nobody sent as many", n)
			}
			other.unharmed(t)
		})
	}
}

// TestAMillionStreamsOfOneConnectionAreCounted uses up a good part of the stream
// identifiers that a connection has.
func TestAMillionStreamsOfOneConnectionAreCounted(t *testing.T) {
	s := newStage(t)
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
	hand(t, near, far, []byte(hello))
	const all, together = 1_000_000, 200
	var asks, tells bytes.Buffer
	for i := range all {
		asks.WriteString(rawAsk(odd(i)))
		tells.WriteString(rawTell(odd(i)))
		if (i+1)%together == 0 {
			hand(t, near, far, asks.Bytes())
			hand(t, far, near, tells.Bytes())
			asks.Reset()
			tells.Reset()
		}
	}
	got := s.settled(t, s.l.Addr().String())
	if got.Requests != all || got.Begun != all || got.Complete.Count() != all || s.loss(t) != (Loss{}) {
		t.Errorf("of a million: begun %d, answered %d, complete %d, lost %+v", got.Begun, got.Requests, got.Complete.Count(), s.loss(t))
	}
}

// TestSlowClientsAreCountedWhenTheyAreAnswered sends requests byte by byte on many
// connections, and the rest of some never.
func TestSlowClientsAreCountedWhenTheyAreAnswered(t *testing.T) {
	a := newArena(t, Options{})
	other := a.bystander(t)
	addr := a.serve(t, mixed)
	conns := make([]*conn, 200)
	for i := range conns {
		conns[i] = dial(t, addr)
	}
	for _, b := range []byte(smuggled) {
		for i, c := range conns {
			if i%2 == 0 || b != '\n' {
				_, _ = c.Write([]byte{b})
			}
		}
	}
	for i, c := range conns {
		if i%2 == 0 {
			c.answers(1, "GET")
		}
		c.Close()
	}
	got := a.settled(t, addr)
	// The server may refuse a rest that never came, by a 400.
	if got.Classes[2] != 100 || got.Classes[4] > 100 || got.Aborted != 0 {
		t.Errorf("100 were answered, counted are %v, %d aborted", got.Classes, got.Aborted)
	}
	invariants(t, Counts{}, got)
	other.unharmed(t)
}

// slabs is how many objects of each of the kernel's allocators for any size are
// in use.
func slabs(t testing.TB) map[string]int {
	t.Helper()
	raw, err := os.ReadFile("/proc/slabinfo")
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if strings.HasPrefix(f[0], "kmalloc-") && !strings.HasPrefix(f[0], "kmalloc-rcl") {
			n[f[0]], _ = strconv.Atoi(f[1])
		}
	}
	return n
}

// TestNothingIsLeftOfClosedConnections finds out which allocators the storage of
// connections comes from, and that 6 000 connections leave nothing there.
func TestNothingIsLeftOfClosedConnections(t *testing.T) {
	s := newStage(t)
	const open, churn = 400, 6000
	before := slabs(t)
	pairs := make([][2]net.Conn, open)
	for i := range pairs {
		near, err := net.Dial("tcp", s.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := s.l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		hand(t, near, far, []byte(hello+rawAsk(1)))
		pairs[i] = [2]net.Conn{near, far}
	}
	during := slabs(t)
	for _, p := range pairs {
		_ = p[0].(*net.TCPConn).SetLinger(0)
		_ = p[0].Close()
		_ = p[1].Close()
	}
	maps.DeleteFunc(during, func(name string, n int) bool { return n < before[name]+open*9/10 })
	if len(during) == 0 {
		t.Fatal("the storage of open connections is in no allocator")
	}
	// Others use the same allocators meanwhile: what leaks does so in every round.
	var left map[string]int
	for range 5 {
		before = slabs(t)
		for i := range uint64(churn) {
			s.play(t, []byte(http2.ClientPreface+rawAsk(1)), nil, i)
		}
		if left = leftOf(t, during, before, churn/10); len(left) == 0 {
			return
		}
	}
	t.Errorf("of %d closed connections are left: %v (in use by %d open ones: %v)", churn, left, open, during)
}

// leftOf is what more than limit objects stay in use of, since before.
func leftOf(t testing.TB, of, before map[string]int, limit int) map[string]int {
	t.Helper()
	left := map[string]int{}
	for range 100 {
		now := slabs(t)
		clear(left)
		for name := range of {
			if grown := now[name] - before[name]; grown > limit {
				left[name] = grown
			}
		}
		if len(left) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond) // the kernel frees after a grace period
	}
	return left
}
