package probe

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// classes is the wanted count of each status class.
type classes = [6]uint64

// oks are n answers of 2xx.
func oks(n uint64) classes { return classes{2: n} }

func rawPath(parts ...string) string { return "/raw?" + url.Values{"part": parts}.Encode() }

// coverage is what is done to a service, and what the probe counts of it.
type coverage struct {
	want    classes
	aborted uint64
	do      func(c *conn, s *service)
}

// countAll gives each case a service and a probe of its own.
func countAll(t *testing.T, cases map[string]coverage) {
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := s.watch(t, Options{})
			tt.do(dial(t, s.v4), s)
			var got Counts
			var snap Snapshot
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // the end of a connection is seen a little later
				if got, snap = total(t, p); got.Classes == tt.want && got.Aborted == tt.aborted {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if got.Classes != tt.want || got.Aborted != tt.aborted || snap.Loss.Requests != 0 {
				t.Errorf("counted %v, %d aborted, %d lost; want %v, %d aborted", got.Classes, got.Aborted, snap.Loss.Requests, tt.want, tt.aborted)
			}
			if n := got.Latency.Count(); n != got.Requests {
				t.Errorf("%d requests, %d in the histogram", got.Requests, n)
			}
			if err := p.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEveryRequestIsCounted(t *testing.T) {
	body := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 40_000) // 1 MB of requests
	countAll(t, map[string]coverage{
		"keep-alive": {want: oks(50), do: func(c *conn, _ *service) {
			for range 50 {
				c.send(get("/"))
				c.answers(1, "GET")
			}
		}},
		"a connection for each": {want: oks(50), do: func(c *conn, s *service) {
			for range 50 {
				c := dial(c.t, s.v4)
				c.send(get("/"))
				c.answers(1, "GET")
				c.Close()
			}
		}},
		"IPv6": {want: oks(20), do: func(c *conn, s *service) {
			c = dial(c.t, s.v6)
			for range 20 {
				c.send(get("/"))
				c.answers(1, "GET")
			}
		}},
		"five in one segment": {want: oks(25), do: func(c *conn, _ *service) {
			for range 5 {
				c.send(strings.Repeat(get("/"), 5))
				c.answers(5, "GET")
			}
		}},
		"five pipelined, each in a segment": {want: oks(25), do: func(c *conn, _ *service) {
			for range 5 {
				c.send(get("/?wait=10ms"), get("/"), get("/"), get("/"), get("/"))
				c.answers(5, "GET")
			}
		}},
		"pipelined, cut anywhere": {want: oks(12), do: func(c *conn, _ *service) {
			all := get("/") + post("/", body[:1000]) + get("/") + get("/")
			for _, at := range []int{7, 30, 1060} {
				c.send(all[:at], all[at:])
				c.answers(4, "GET")
			}
		}},
	})
}

func TestRequestsWithBodiesAreCounted(t *testing.T) {
	body := strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 40_000) // 1 MB of requests
	countAll(t, map[string]coverage{
		"a body full of requests": {want: oks(3), do: func(c *conn, _ *service) {
			for range 3 {
				c.send(post("/", body))
				c.answers(1, "POST")
			}
		}},
		"answered before the body has come": {want: oks(3), do: func(c *conn, _ *service) {
			for range 3 {
				c.send(post("/early", body)[:2000])
				time.Sleep(5 * time.Millisecond)
				c.send(post("/early", body)[2000:])
				c.answers(1, "POST")
			}
		}},
		"a chunked body full of requests": {want: oks(3), do: func(c *conn, _ *service) {
			for range 3 {
				c.send("POST / HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n", "1c\r\n", body[:28], "\r\n0\r\n\r\n")
				c.answers(1, "POST")
			}
		}},
		"100-continue": {want: oks(3), do: func(c *conn, _ *service) {
			for range 3 {
				c.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
				c.answers(1, "POST")
				c.send("abc")
				c.answers(1, "POST")
			}
		}},
		"data in the last packet of the handshake": {want: oks(10), do: func(c *conn, s *service) {
			for range 5 {
				c := dial(c.t, s.defer4)
				for range 2 {
					c.send(get("/"))
					c.answers(1, "GET")
				}
			}
		}},
		"a chunked body with trailers": {want: oks(4), do: func(c *conn, _ *service) {
			for range 2 {
				c.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nGET /\r\n0\r\nX-Sum: 1\r\n\r\n")
				c.answers(1, "POST")
				c.send(get("/"))
				c.answers(1, "GET")
			}
		}},
	})
}

func TestRequestsOfOddShapeAreCounted(t *testing.T) {
	countAll(t, map[string]coverage{
		"a request cut inside the method": {want: oks(4), do: func(c *conn, _ *service) {
			for range 4 {
				c.send("G", "ET", " / HTTP/1.1\r\nHo", "st: x\r\n\r", "\n")
				c.answers(1, "GET")
			}
		}},
		"a request byte by byte": {want: oks(2), do: func(c *conn, _ *service) {
			for range 2 {
				c.send(strings.Split(post("/", "ab"), "")...)
				c.answers(1, "POST")
			}
		}},
		"a method that is not in the book": {want: oks(1), do: func(c *conn, _ *service) {
			c.send("PURGE / HTTP/1.1\r\nHost: x\r\n\r\n")
			c.answers(1, "PURGE")
		}},
		"a head of 30 kB": {want: oks(6), do: func(c *conn, _ *service) {
			for range 3 {
				c.send("GET / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("long=", 6000) + "\r\n\r\n" + get("/"))
				c.answers(2, "GET")
			}
		}},
		"a head of 200 lines": {want: oks(2), do: func(c *conn, _ *service) {
			c.send("GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Line: value\r\n", 200) + "\r\n" + get("/"))
			c.answers(2, "GET")
		}},
		"a head that is refused": {want: classes{4: 1}, do: func(c *conn, _ *service) {
			c.send("GET / HTTP/1.1\r\nContent-Length: nonsense\r\n\r\n")
			c.answers(1, "GET")
		}},
		"half a request is no request": {do: func(c *conn, _ *service) {
			c.send("GET / HTTP/1.1\r\nHo")
			_ = c.Conn.(*net.TCPConn).SetLinger(0)
			c.Close()
		}},
		"another protocol": {do: func(c *conn, s *service) {
			for _, hello := range []string{"\x16\x03\x01\x00\x05hello", "PING\r\n", "EHLO mail.example.org\r\n"} {
				c := dial(c.t, s.v4)
				c.send(hello, strings.Repeat("\r\n", 12)) // as long as a preface of HTTP/2
				_, _ = c.Read(make([]byte, 100))
			}
		}},
		"the client has said all it has to say": {want: oks(1), do: func(c *conn, _ *service) {
			c.send(get("/?wait=20ms"))
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			c.answers(1, "GET")
		}},
		"HTTP/1.0": {want: oks(3), do: func(c *conn, s *service) {
			for range 3 {
				c := dial(c.t, s.v4)
				c.send("GET /?size=9 HTTP/1.0\r\n\r\n")
				c.answers(1, "GET")
			}
		}},
	})
}

func TestConnectionsOlderThanTheProbeAreCounted(t *testing.T) {
	s := start(t)
	c := dial(t, s.v4)
	c.send(get("/"))
	c.answers(1, "GET")
	p := s.watch(t, Options{})
	for range 20 {
		c.send(get("/"))
		c.answers(1, "GET")
	}
	if got, _ := total(t, p); got.Requests != 20 {
		t.Errorf("counted %d, want 20", got.Requests)
	}
}

func TestOutgoingRequestsAreNotCounted(t *testing.T) {
	s := start(t) // and this process is the client, in the measured group as well
	p := s.watch(t, Options{})
	moveInto(t, s.group)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 10 {
		resp, err := client.Get("http://" + s.v4)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	got, snap := total(t, p)
	if got.Requests != 10 || len(snap.Workloads) != 1 {
		t.Errorf("counted %d requests of %d workloads, want 10 of 1", got.Requests, len(snap.Workloads))
	}
}

func TestRequestsBeyondTheTableAreReportedAsLost(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Workloads: 1})
	for _, addr := range []string{s.v4, s.v6} {
		c := dial(t, addr)
		for range 5 {
			c.send(get("/"))
			c.answers(1, "GET")
		}
	}
	if got, snap := total(t, p); got.Requests != 5 || snap.Loss.Requests != 5 {
		t.Errorf("counted %d, lost %d; want 5 and 5", got.Requests, snap.Loss.Requests)
	}
}

func TestLatencyIsWhatTheServiceTook(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	before := time.Now()
	c := dial(t, s.v4)
	var longest time.Duration // for the client
	for range 10 {
		begin := time.Now()
		c.send(get("/?wait=20ms"))
		c.answers(1, "GET")
		longest = max(longest, time.Since(begin))
	}
	got, snap := total(t, p)
	if at := got.Latency.QuantileIndex(0.5); at < histogram.Index(20*time.Millisecond) || at > histogram.Index(longest) {
		t.Errorf("the median is %v, want from 20 ms to %v", got.Latency.Quantile(0.5), longest)
	}
	for w, c := range snap.Workloads {
		if w.Addr.String() != s.v4 {
			t.Errorf("the workload is %v, want %s", w.Addr, s.v4)
		}
		if c.First.Before(before) || c.First.After(time.Now()) || !c.FirstError.IsZero() {
			t.Errorf("first answer at %v, first error at %v", c.First, c.FirstError)
		}
	}
	if again, _ := p.Snapshot(); again.At.Before(snap.At) {
		t.Error("time goes backwards")
	}
}

// moveInto moves this process into a control group, and back at the end to the one
// that it returns.
func moveInto(t testing.TB, group string) (home string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, home, _ = strings.Cut(string(raw), "0::")
	home, _, _ = strings.Cut(home, "\n")
	home = testenv.CgroupRoot(t) + home
	join(t, group)
	t.Cleanup(func() { join(t, home) })
	return home
}

func join(t testing.TB, group string) {
	t.Helper()
	if err := os.WriteFile(group+"/cgroup.procs", []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRandomStreams sends streams of requests with bodies that look like
// requests, cut anywhere, and pipelined as deep as it comes.
func TestRandomStreams(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	var want uint64
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := dial(t, s.v4)
		var stream strings.Builder
		n := 1 + r.IntN(12)
		for range n {
			switch r.IntN(4) {
			case 0:
				stream.WriteString(get("/?" + strings.Repeat("q", r.IntN(1500))))
			case 1:
				stream.WriteString(post("/", strings.Repeat(get("/"), r.IntN(200))))
			case 2:
				stream.WriteString("PUT / HTTP/1.1\r\nHost: x\r\nCookie: " + strings.Repeat("c", r.IntN(3000)) + "\r\nContent-Length: 4\r\n\r\nGET ")
			case 3:
				stream.WriteString("DELETE /x HTTP/1.1\nHost: x\n\n") // bare newlines
			}
		}
		var parts []string
		for rest := stream.String(); rest != ""; {
			at := min(len(rest), 1+r.IntN(2000))
			if r.IntN(3) == 0 {
				at = min(len(rest), 1+r.IntN(20))
			}
			parts, rest = append(parts, rest[:at]), rest[at:]
		}
		go func() {
			for i, part := range parts {
				if i%3 == 0 {
					time.Sleep(time.Millisecond)
				}
				_, _ = c.Write([]byte(part))
			}
		}()
		c.answers(n, "GET")
		want += uint64(n)
		if got, snap := total(t, p); got.Requests != want || snap.Loss.Requests != 0 {
			t.Fatalf("stream %d of %d requests: counted %d in all, want %d", seed, n, got.Requests, want)
		}
		c.Close()
	}
	time.Sleep(20 * time.Millisecond)
	if got, _ := total(t, p); got.Aborted != 0 {
		t.Errorf("%d aborted, none was", got.Aborted)
	}
}
