package probe

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// newH2Transport speaks HTTP/2 at once, over plain TCP, on one connection.
func newH2Transport(t testing.TB) *http.Transport {
	transport := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{StrictMaxConcurrentRequests: true}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func newH2Client(t testing.TB) *http.Client {
	return &http.Client{
		Transport: newH2Transport(t), Timeout: patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// fetch makes a request and returns the status of the answer, when it has all of
// it.
func fetch(t testing.TB, c *http.Client, method, url string, body int) int {
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(strings.Repeat("b", body)))
	if err != nil {
		t.Error(err)
		return 0
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	return resp.StatusCode
}

// crowd lets some workers do something n times each.
func crowd(workers, n int, do func(i int)) {
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range n {
				do(w*n + i)
			}
		})
	}
	all.Wait()
}

func TestEveryRequestOfHTTP2IsCounted(t *testing.T) {
	t.Parallel()
	for _, streams := range []int{1, 20, 100, 250} {
		t.Run(fmt.Sprintf("%d at a time", streams), func(t *testing.T) {
			t.Parallel()
			withoutHole(t, func() bool { return fetchStreams(t, streams) })
		})
	}
}

// withoutHole does something until the probe has not lost track of anything. A
// hypervisor that takes a processor away in the middle of a segment makes a hole
// for the other one: never a silent one.
func withoutHole(t *testing.T, do func() (whole bool)) {
	t.Helper()
	for range 5 {
		if do() {
			return
		}
	}
	t.Error("no run without a hole")
}

// fetchStreams fetches with so many streams at a time and compares what was
// counted. It is false if the probe says that it has lost track of something.
func fetchStreams(t *testing.T, streams int) bool {
	t.Helper()
	statuses := []int{200, 200, 200, 201, 204, 302, 404, 418, 429, 500, 503, 507}
	s := start(t)
	p := s.watch(t, Options{})
	client := newH2Client(t)
	fetch(t, client, "GET", "http://"+s.v4, 0) // the connection is there for all
	want := oks(1)
	var mu sync.Mutex
	crowd(streams, 5000/streams, func(i int) {
		status := statuses[i%len(statuses)]
		size := 0
		if status != 204 {
			size = i % 7 * 100
		}
		url := fmt.Sprintf("http://%s/?status=%d&size=%d&x=%s", s.v4, status, size, strings.Repeat("x", rand.IntN(100)))
		got := fetch(t, client, []string{"GET", "HEAD", "POST"}[i%3], url, i%3/2*i%1000)
		if got != status {
			t.Errorf("the client got %d, want %d", got, status)
		}
		mu.Lock()
		defer mu.Unlock()
		want[status/100]++
	})
	got, snap := total(t, p)
	for deadline := time.Now().Add(patience); got.Classes != want || got.Complete.Count() != got.Requests; got, snap = total(t, p) {
		if snap.Loss.Desynced > 0 {
			return false
		}
		if time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if got.Classes != want || got.Aborted != 0 || got.InFlight() != 0 || got.Connections != 1 || snap.Loss != (Loss{Exemplars: snap.Loss.Exemplars}) {
		t.Errorf("counted %v, %d aborted, %d in flight, %d connections, lost %+v; want %v", got.Classes, got.Aborted, got.InFlight(), got.Connections, snap.Loss, want)
	}
	if n := got.Complete.Count(); n != got.Requests {
		t.Errorf("%d requests, %d last bytes", got.Requests, n)
	}
	return true
}

func TestWhatAnswersOfHTTP2AreMadeOfDoesNotMatter(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, tt := range map[string]struct {
		method, path string
		body, status int
	}{
		"large both ways":                     {method: "POST", path: "/?size=4000000", body: 4_000_000, status: 200},
		"1xx first":                           {method: "GET", path: "/hints", status: 200},
		"answered before the body has come":   {method: "POST", path: "/early", body: 300_000, status: 202},
		"trailers":                            {method: "GET", path: "/trailers", status: 200},
		"a body that looks like answers":      {method: "GET", path: "/lookalike", status: 200},
		"HEAD of something large":             {method: "HEAD", path: "/?size=4000000", status: 200},
		"a head that goes on in other frames": {method: "GET", path: "/long", status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			withoutHole(t, func() bool {
				p, client := s.watch(t, Options{}), newH2Client(t)
				defer p.Close()
				for range 5 {
					if got := fetch(t, client, tt.method, "http://"+s.v4+tt.path, tt.body); got != tt.status {
						t.Errorf("the client got %d, want %d", got, tt.status)
					}
				}
				if _, snap := total(t, p); snap.Loss.Desynced > 0 {
					return false
				}
				if got := eventually(t, p, func(c Counts) bool { return c.Classes == oks(5) }); got.Classes != oks(5) {
					t.Errorf("counted %v, want 5", got.Classes)
				}
				return true
			})
		})
	}
}

func TestAPortMaySpeakBothVersions(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	old, modern := &http.Client{Transport: &http.Transport{}}, newH2Client(t)
	defer old.CloseIdleConnections()
	crowd(8, 50, func(i int) {
		client := old
		if i%2 == 0 {
			client = modern
		}
		fetch(t, client, "POST", "http://"+s.v4, i)
	})
	if got := eventually(t, p, func(c Counts) bool { return c.Classes == oks(400) }); got.Classes != oks(400) {
		t.Errorf("counted %v, want 400", got.Classes)
	}
}

func TestClientsOfHTTP2ThatDieLeaveAborts(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := s.watch(t, Options{})
	const streams = 30
	var conn net.Conn
	transport := newH2Transport(t)
	transport.DialContext = func(_ context.Context, _, addr string) (net.Conn, error) {
		conn = dial(t, addr).Conn
		return conn, nil
	}
	fetch(t, &http.Client{Transport: transport}, "GET", "http://"+s.v4, 0)
	var all sync.WaitGroup
	for range streams {
		all.Go(func() {
			req, _ := http.NewRequest("GET", "http://"+s.v4+"/?wait=5s", nil)
			if resp, err := transport.RoundTrip(req); err == nil {
				resp.Body.Close()
				t.Error("the client got an answer")
			}
		})
	}
	if got := eventually(t, p, func(c Counts) bool { return c.InFlight() == streams }); got.InFlight() != streams {
		t.Errorf("%d in flight, want %d", got.InFlight(), streams)
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // a reset
	_ = conn.Close()
	all.Wait()
	got := eventually(t, p, func(c Counts) bool { return c.Aborted == streams })
	if got.Aborted != streams || got.InFlight() != 0 || got.Resets != 1 || got.Failed() != streams {
		t.Errorf("%d aborted, %d in flight, %d resets; want %d, 0, 1", got.Aborted, got.InFlight(), got.Resets, streams)
	}
}

func TestConnectionsOfHTTP2OlderThanTheProbeAreFound(t *testing.T) {
	t.Parallel()
	s := startAt(t, place{listen: lowPort()})
	client := newH2Client(t)
	url := "http://" + s.v4
	fetch(t, client, "GET", url, 0)
	p := s.watch(t, Options{})
	for i := range 20 {
		fetch(t, client, "GET", fmt.Sprintf("%s/?status=%d", url, []int{200, 404, 500, 204}[i%4]), 0)
	}
	want := classes{2: 10, 4: 5, 5: 5}
	if got := eventually(t, p, func(c Counts) bool { return c.Classes == want }); got.Classes != want {
		t.Errorf("counted %v, want %v", got.Classes, want)
	}
}

func TestAnOlderConnectionThatBeginsWithAnotherFrameIsFound(t *testing.T) {
	t.Parallel()
	s := startAt(t, place{listen: lowPort()})
	c := dial(t, s.v4)
	client := newPeer(t, c.Conn, nil)
	answers := http2.NewFramer(nil, c.Conn)
	client.out.WriteString(http2.ClientPreface)
	_ = client.WriteSettings()
	ask := func(stream uint32) {
		client.head(stream, true, ":method", "GET", ":scheme", "http", ":authority", "x", ":path", "/?status=404")
		_, _ = client.out.WriteTo(c.Conn)
		for {
			f, err := answers.ReadFrame()
			if err != nil {
				t.Fatal(err)
			}
			if f.Header().StreamID == stream && f.Header().Flags.Has(http2.FlagDataEndStream) {
				return
			}
		}
	}
	ask(1)
	p := s.watch(t, Options{})
	_ = client.WriteSettingsAck()
	_, _ = client.out.WriteTo(c.Conn)
	for i := range uint32(10) {
		ask(2*i + 3)
	}
	want := classes{4: 10}
	if got := eventually(t, p, func(c Counts) bool { return c.Classes == want }); got.Classes != want {
		t.Errorf("counted %v, want %v", got.Classes, want)
	}
}

// lowPort is an address whose port is none that the kernel picks by itself.
func lowPort() string { return fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(20000)) }
