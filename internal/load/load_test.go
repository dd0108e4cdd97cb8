package load

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

func run(t *testing.T, o Options) Result {
	t.Helper()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestEveryRequestIsCountedOnce(t *testing.T) {
	var n atomic.Int64
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader([]int{200, 204, 301, 404, 503}[n.Add(1)%5])
	})
	var seconds Stats
	r := run(t, Options{URLs: []string{url}, Rate: 200, Duration: 1500 * time.Millisecond, EachSecond: func(s Stats) {
		seconds.Due += s.Due
		seconds.Sent += s.Sent
		seconds.Late += s.Late
		seconds.Answered += s.Answered
		for i, c := range s.Classes {
			seconds.Classes[i] += c
		}
		if d := s.End.Sub(s.Start); d <= 0 || d > 2*time.Second {
			t.Errorf("a second took %v", d)
		}
	}})
	if r.Due != 300 || r.Sent+r.Late != 300 || r.Answered != r.Sent || r.Failed != 0 || r.Rate != 200 {
		t.Errorf("got %+v", r)
	}
	if r.Late == 0 {
		if diff := cmp.Diff([6]uint64{0, 0, 120, 60, 60, 60}, r.Classes); diff != "" {
			t.Error(diff)
		}
	}
	if r.Bad() != r.Classes[5] {
		t.Errorf("Bad() = %d", r.Bad())
	}
	if seconds.Due != r.Due || seconds.Sent != r.Sent || seconds.Late != r.Late || seconds.Answered != r.Answered || seconds.Classes != r.Classes {
		t.Errorf("the seconds add up to %+v, the run is %+v", seconds, r.Stats)
	}
	if l := r.Latency; l.P50 <= 0 || l.P50 > l.P90 || l.P90 > l.P99 || l.P99 > l.Max || l.Mean > l.Max {
		t.Errorf("latency %+v", l)
	}
}

func TestRequestsArriveAsAskedFor(t *testing.T) {
	var mu sync.Mutex
	got := map[string]int{}
	url := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		got[req.Method+" "+req.URL.Path+" "+string(body)+" "+req.Header.Get("X-A")+" "+req.UserAgent()]++
		for name := range req.Header {
			if strings.HasPrefix(name, "X-Vegeta") {
				t.Errorf("header %s was sent", name)
			}
		}
	})
	run(t, Options{
		URLs: []string{url + "/a", url + "/b"}, Rate: 100, Duration: 100 * time.Millisecond,
		Method: "POST", Body: []byte("hi"), Header: http.Header{"X-A": {"1"}},
	})
	if diff := cmp.Diff(map[string]int{"POST /a hi 1 sluice-load": 5, "POST /b hi 1 sluice-load": 5}, got); diff != "" {
		t.Error(diff)
	}
}

func TestConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		keepAlive bool
		fewest    int64
		most      int64
	}{
		"each request has its own by default": {false, 50, 50},
		"kept connections are used again":     {true, 1, 25},
	} {
		t.Run(name, func(t *testing.T) {
			var opened atomic.Int64
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
				if s == http.StateNew {
					opened.Add(1)
				}
			}
			server.Start()
			defer server.Close()
			r := run(t, Options{URLs: []string{server.URL}, Rate: 100, Duration: 500 * time.Millisecond, KeepAlive: tt.keepAlive})
			if r.Answered != 50 || opened.Load() < tt.fewest || opened.Load() > tt.most {
				t.Errorf("%d connections for %d requests, want %d to %d", opened.Load(), r.Answered, tt.fewest, tt.most)
			}
		})
	}
}

func TestASlowServerGetsNoRelief(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) { time.Sleep(700 * time.Millisecond) })
	start := time.Now()
	r := run(t, Options{URLs: []string{url}, Rate: 100, Duration: time.Second})
	if r.Sent+r.Late != 100 || r.Answered != r.Sent || r.Latency.P50 < 700*time.Millisecond {
		t.Errorf("got %+v", r.Stats)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

func TestAStuckServerBlocksAndIsCutOff(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	r := run(t, Options{URLs: []string{url}, Rate: 100, Duration: time.Second, Connections: 5})
	if r.Blocked == 0 || r.Sent+r.Blocked+r.Late != r.Due || r.Cancelled != r.Sent || r.Bad() != 0 {
		t.Errorf("got %+v", r.Stats)
	}
}

func TestFailures(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := listener.Addr().String()
	listener.Close()
	for name, tt := range map[string]struct {
		handle http.HandlerFunc
		url    string
		want   string
	}{
		"nobody listens":          {nil, "http://" + nobody + "/", "dial tcp " + nobody + ": connect: connection refused"},
		"no such host":            {nil, "http://" + strings.Repeat("x", 70) + ".invalid/", "no such host"},
		"an answer too late":      {func(http.ResponseWriter, *http.Request) { time.Sleep(400 * time.Millisecond) }, "", "no complete answer in time"},
		"a body that never ends":  {func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush(); <-r.Context().Done() }, "", "no complete answer in time"},
		"a connection cut short":  {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "", "EOF"},
		"a body that is cut":      {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "9") }, "", "unexpected EOF"},
		"a connection that reset": {reset, "", "read tcp 127.0.0.1:"},
	} {
		t.Run(name, func(t *testing.T) {
			url := tt.url
			if url == "" {
				url = serve(t, tt.handle)
			}
			r := run(t, Options{URLs: []string{url}, Rate: 50, Duration: 100 * time.Millisecond, Timeout: 200 * time.Millisecond})
			if r.Failed != 5 || r.Answered != 0 || r.Bad() != 5 || len(r.Errors) != 1 || r.Errors[0].Count != 5 || !strings.Contains(r.Errors[0].Text, tt.want) {
				t.Errorf("got %d failed, %+v, want %q", r.Failed, r.Errors, tt.want)
			}
			if len(r.Errors) > 0 && r.Errors[0].First.Before(r.Start) {
				t.Errorf("first at %v, started at %v", r.Errors[0].First, r.Start)
			}
		})
	}
}

// reset answers with an RST.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func TestAnEarlyEndIsPromptAndComplete(t *testing.T) {
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	for name, rate := range map[string]float64{"a request in ten seconds": 0.1, "a thousand a second": 1000} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			start := time.Now()
			r, err := Run(ctx, Options{URLs: []string{url}, Rate: rate})
			if took := time.Since(start); err != nil || took > 8*time.Second {
				t.Errorf("took %v, %v", took, err)
			}
			if r.Answered != r.Sent || r.Bad() != 0 || r.Cancelled != 0 {
				t.Errorf("got %+v", r.Stats)
			}
			for range 100 {
				if runtime.NumGoroutine() <= before+2 { // the test server's last ones may still be ending
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%d goroutines became %d", before, runtime.NumGoroutine())
		})
	}
}

func TestAKeptConnectionThatWasClosedIsRetried(t *testing.T) {
	var served atomic.Int64
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if served.Add(1)%2 == 0 { // the second request on a connection gets nothing
			reset(w, nil)
		}
	})
	r := run(t, Options{URLs: []string{url}, Rate: 20, Duration: 500 * time.Millisecond, KeepAlive: true})
	if r.Retried == 0 || r.Answered != 10 {
		t.Errorf("got %+v", r.Stats)
	}
}

func TestOptions(t *testing.T) {
	good := []string{"http://127.0.0.1:1/"}
	for name, tt := range map[string]struct {
		o    Options
		want string
	}{
		"no URL":         {Options{Rate: 1}, "load: URL is missing: name at least one"},
		"no scheme":      {Options{URLs: []string{"127.0.0.1:80"}, Rate: 1}, `load: URL "127.0.0.1:80" is no URL (write http://127.0.0.1:8080/)`},
		"another scheme": {Options{URLs: []string{"ftp://x/"}, Rate: 1}, `load: URL "ftp://x/" has no scheme http or https (write http://127.0.0.1:8080/)`},
		"no host":        {Options{URLs: []string{"http:///x"}, Rate: 1}, `load: URL "http:///x" has no host (write http://127.0.0.1:8080/)`},
		"no rate":        {Options{URLs: good}, "load: rate is 0: want a number of requests a second above 0, at most 1000000"},
		"a past timeout": {Options{URLs: good, Rate: 1, Timeout: -1}, "load: duration, timeout or connections is below zero"},
		"no method":      {Options{URLs: good, Rate: 1, Method: "GE T"}, `load: method "GE T" is none`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Run(t.Context(), tt.o)
			var option *OptionError
			if !errors.As(err, &option) || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestResultAsJSON(t *testing.T) {
	r := Result{Rate: 50, Stats: Stats{Due: 5, Sent: 4, Late: 1, Failed: 2, Classes: [6]uint64{5: 1}, Errors: []Failure{{Text: "EOF", Count: 2}}}}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]any{"rate": 50., "due": 5., "sent": 4., "late": 1., "failed": 2., "bad": 3., "trouble": "1 of 5 requests were not sent: this machine is too busy for the rate"} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v\n%s", name, got[name], want, text)
		}
	}
}
