package probe

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
)

// timed is one request by three clocks. What the service took is a part of what
// the probe measures, and that of what the client waits for, however busy the
// machine is.
type timed struct{ service, probe, client time.Duration }

// measure makes requests one after the other.
func measure(t *testing.T, s *service, p *Probe, waits []time.Duration) (all []timed) {
	t.Helper()
	c := dial(t, s.v4)
	before, _ := total(t, p)
	for i, wait := range waits {
		begin := time.Now()
		c.send(get(fmt.Sprintf("/timed?wait=%v", wait)))
		if _, err := c.in.Peek(1); err != nil {
			t.Fatal(err)
		}
		r := timed{client: time.Since(begin)}
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		r.service, _ = time.ParseDuration(resp.Header.Get("X-Took"))
		got, _ := total(t, p)
		r.probe = got.LatencySum - before.LatencySum
		before = got
		if r.service < wait || r.probe < r.service || r.client < r.probe {
			t.Errorf("request %d took %v in the service, %v for the probe, %v for the client; want %v and each more than the one before", i, r.service, r.probe, r.client, wait)
		}
		all = append(all, r)
	}
	return all
}

// quantile is that of some durations, which it sorts.
func quantile(d []time.Duration, q float64) time.Duration {
	slices.Sort(d)
	return d[int(q*float64(len(d)-1))]
}

func TestTheProbeIsAsExactAsAClock(t *testing.T) {
	t.Parallel()
	levels := []time.Duration{200 * time.Microsecond, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond}
	cases := map[string][]time.Duration{}
	for i, wait := range levels {
		cases[wait.String()] = slices.Repeat([]time.Duration{wait}, []int{200, 200, 60, 25, 6}[i])
	}
	for range 60 {
		cases["mixture"] = append(cases["mixture"], levels[min(rand.IntN(6), rand.IntN(6), 4)])
	}
	for name, waits := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := s.watch(t, Options{})
			all := measure(t, s, p, waits)
			var want histogram.Histogram
			var inner, outer, took []time.Duration
			for _, r := range all {
				want.Observe(r.probe)
				took = append(took, r.probe)
				inner, outer = append(inner, r.probe-r.service), append(outer, r.client-r.probe)
			}
			got, _ := total(t, p)
			if !got.Latency.Equal(want) {
				t.Error("the histogram is not that of the single durations")
			}
			for _, q := range []float64{0.5, 0.9, 0.99} {
				rank := q * float64(len(took)-1)
				slices.Sort(took)
				least, most := histogram.Index(took[int(rank)])-1, histogram.Index(took[int(math.Ceil(rank))])+1
				if i := got.Latency.QuantileIndex(q); i < least || i > most {
					t.Errorf("the quantile %v is in bucket %d, want one from %d to %d", q, i, least, most)
				}
			}
			// That each is between the two clocks is proved by measure; how near depends on
			// how long one waits for a turn on this machine.
			t.Logf("median less than the client %v, more than the service %v", quantile(outer, 0.5), quantile(inner, 0.5))
		})
	}
}

func TestTheLastByteIsTimed(t *testing.T) {
	t.Parallel()
	for name, client := range map[string]*http.Client{
		"HTTP/1.1": {Transport: &http.Transport{DisableKeepAlives: true}}, "HTTP/2": newH2Client(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := s.watch(t, Options{})
			var before Counts
			for i := range uint64(10) {
				begin := time.Now()
				resp, err := client.Get("http://" + s.v4 + "/timed?wait=1ms&then=20ms")
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				client.CloseIdleConnections()
				most := time.Since(begin)
				least, _ := time.ParseDuration(strings.TrimSpace(string(body)))
				got := eventually(t, p, func(c Counts) bool { return c.Complete.Count() > i })
				one, err := got.Complete.Sub(&before.Complete)
				if err != nil || one.Count() != 1 {
					t.Fatalf("%d last bytes (%v), want 1", one.Count(), err)
				}
				if at := one.QuantileIndex(0.5); at < histogram.Index(least) || at > histogram.Index(most) {
					t.Errorf("the last byte took %v, want from %v to %v", one.Quantile(0.5), least, most)
				}
				before = got
			}
		})
	}
}

// counting counts what it reads and writes.
type counting struct {
	net.Conn
	in, out atomic.Uint64
}

func (c *counting) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.in.Add(uint64(n))
	return n, err
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.out.Add(uint64(n))
	return n, err
}

func TestEveryByteIsCountedOnce(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	var in, out uint64
	var conns []*counting
	transport := &http.Transport{MaxConnsPerHost: 1, DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		c := &counting{Conn: dial(t, addr).Conn}
		conns = append(conns, c)
		return c, nil
	}}
	client := &http.Client{Transport: transport}
	for i := range 20 {
		method, size := "POST", i*i*5000
		if i%4 == 3 {
			method = "HEAD"
		}
		fetch(t, client, method, fmt.Sprintf("http://%s/?size=%d", s.v4, i*10_000), size)
	}
	transport.CloseIdleConnections()
	for _, c := range conns {
		in, out = in+c.out.Load(), out+c.in.Load()
	}
	got := eventually(t, p, func(c Counts) bool { return c.BytesIn == in && c.BytesOut == out })
	if got.BytesIn != in || got.BytesOut != out || got.Connections != uint64(len(conns)) {
		t.Errorf("%d bytes in, %d out, %d connections; want %d, %d, %d", got.BytesIn, got.BytesOut, got.Connections, in, out, len(conns))
	}
}

func TestSegmentsAndBytesAreCountedToTheLast(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	answer := "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"
	x := s.pair(t, "127.0.7.1")
	y := s.pair(t, "127.0.7.2")
	y.greet()
	var want Counts
	want.BytesIn, want.BytesOut, want.Segments = 24+9, 9+9, 1
	for range 10 {
		x.client.send([]byte(get("/")))
		x.server.send([]byte(answer), make([]byte, 100), make([]byte, 100), make([]byte, 100))
		y.reply(503, 14, reply)
		want.BytesIn += uint64(len(get("/")) + 9 + len(question))
		want.BytesOut += uint64(len(answer) + 300 + 9 + len(reply))
		want.Segments += 4 + 1
	}
	for _, end := range []*peer{x.client, x.server, y.client, y.server} {
		_ = end.conn.Close() // what was sent last is counted now at the latest
	}
	got := eventually(t, p, func(c Counts) bool { return c.BytesOut == want.BytesOut })
	if got.BytesIn != want.BytesIn || got.BytesOut != want.BytesOut || got.Segments != want.Segments || got.Retransmits != 0 {
		t.Errorf("%d bytes in, %d out in %d segments, %d sent again; want %d, %d in %d", got.BytesIn, got.BytesOut, got.Segments, got.Retransmits, want.BytesIn, want.BytesOut, want.Segments)
	}
}

func TestRequestsInFlightAreThoseWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	const conns = 20
	var open []*conn
	for i := range uint64(conns) {
		c := dial(t, s.v4)
		c.send(get("/?wait=300ms"))
		open = append(open, c)
		if got := eventually(t, p, func(c Counts) bool { return c.Begun == i+1 }); got.Begun != i+1 {
			t.Fatalf("%d begun, want %d", got.Begun, i+1)
		}
	}
	if got, _ := total(t, p); got.InFlight() != got.Begun-got.Requests || got.Begun != conns {
		t.Errorf("%d in flight of %d, %d answered", got.InFlight(), got.Begun, got.Requests)
	}
	for _, c := range open {
		c.answers(1, "GET")
	}
	if got, _ := total(t, p); got.InFlight() != 0 || got.Requests != conns {
		t.Errorf("%d in flight, %d answered; want 0 and %d", got.InFlight(), got.Requests, conns)
	}
}
