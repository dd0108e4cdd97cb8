package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// TestDrainLosesNothing moves load from one shop to another as a balancer
// would: it asks /readyz, is slow to notice, and meanwhile goes on sending over
// old and fresh connections to the one that leaves.
func TestDrainLosesNothing(t *testing.T) {
	for name, send := range map[string]func(t *testing.T) func(addr string) error{
		"HTTP/1.1 keep-alive":        func(t *testing.T) func(string) error { return poster(client(t, false), once) },
		"HTTP/1.1 fresh connections": func(t *testing.T) func(string) error { return poster(freshClient(t), once) },
		"h2c":                        func(t *testing.T) func(string) error { return poster(client(t, true), again) },
		"gRPC":                       grpcCaller,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, next := launch(t, "-lame-duck", "1s"), launch(t)
			var target atomic.Pointer[string]
			target.Store(&old.addr)
			var answered, failed atomic.Int64
			call := send(t)
			done := make(chan struct{})
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for {
						select {
						case <-done:
							return
						default:
						}
						if err := call(*target.Load()); err != nil {
							failed.Add(1)
							t.Error(err)
						} else {
							answered.Add(1)
						}
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			old.stop()
			waitUntilNotReady(t, old.addr)
			time.Sleep(200 * time.Millisecond)
			target.Store(&next.addr)
			if code := old.wait(t); code != exitOK {
				t.Errorf("exit code %d: %s", code, old.errors())
			}
			close(done)
			wg.Wait()
			if failed.Load() > 0 || answered.Load() < 20 {
				t.Errorf("%d answered, %d failed", answered.Load(), failed.Load())
			}
		})
	}
}

func waitUntilNotReady(t *testing.T, addr string) {
	t.Helper()
	c := freshClient(t)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if status, _ := get(t, c, "http://"+addr+"/readyz"); status == http.StatusServiceUnavailable {
			return
		}
	}
	t.Fatal("the service stays ready after it was told to leave")
}

func freshClient(t *testing.T) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
}

// once is a body that cannot be read again, so that net/http cannot hide a
// broken connection by repeating the request.
func once() io.Reader { return struct{ io.Reader }{strings.NewReader("body")} }

// again is a body that can. An HTTP/2 client has to repeat requests that
// crossed the GOAWAY: the server says that it did not touch them (RFC 9113,
// section 6.8). net/http repeats no others.
func again() io.Reader { return strings.NewReader("body") }

func poster(c *http.Client, body func() io.Reader) func(addr string) error {
	return func(addr string) error {
		resp, err := c.Post("http://"+addr+"/work", "text/plain", body())
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answer %s", resp.Status)
		}
		return nil
	}
}

func grpcCaller(t *testing.T) func(addr string) error {
	var mu sync.Mutex
	calls := map[string]func() error{}
	return func(addr string) error {
		mu.Lock()
		call := calls[addr]
		if call == nil {
			conn := dial(t, addr)
			call = func() error { _, err := callWork(t.Context(), conn); return err }
			calls[addr] = call
		}
		mu.Unlock()
		return call()
	}
}

func TestDrainWaitsForWhatIsInFlight(t *testing.T) {
	s := launch(t, "-latency", "400ms", "-latency-sigma", "0")
	c := client(t, false)
	answers := make(chan error, 1)
	go func() { answers <- poster(c, once)(s.addr) }()
	time.Sleep(100 * time.Millisecond)
	s.stop()
	if err := <-answers; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, s.errors())
	}
}

func TestDrainGivesUpAtItsDeadline(t *testing.T) {
	s := launch(t, "-latency", "1m", "-latency-sigma", "0", "-drain-timeout", "50ms")
	c := client(t, false)
	answers := make(chan error, 1)
	go func() { answers <- poster(c, once)(s.addr) }()
	time.Sleep(100 * time.Millisecond)
	s.stop()
	if err := <-answers; err == nil {
		t.Error("a request of one minute was answered")
	}
	if code := s.wait(t); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if want := "1 requests still running after -drain-timeout 50ms were cut off"; !strings.Contains(s.errors(), want) {
		t.Errorf("stderr %q, want %q", s.errors(), want)
	}
}

// A health watch never ends by itself and must not hold up the drain.
func TestDrainTellsAndEndsHealthWatches(t *testing.T) {
	s := launch(t, "-lame-duck", "100ms")
	watch, err := healthpb.NewHealthClient(dial(t, s.addr)).Watch(t.Context(), &healthpb.HealthCheckRequest{Service: rpcService})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{
		healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		resp, err := watch.Recv()
		if err != nil || resp.Status != want {
			t.Fatalf("watch says %v, %v; want %v", resp.GetStatus(), err, want)
		}
		s.stop()
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("watch ended with %v, want UNAVAILABLE", err)
	}
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, s.errors())
	}
}

func TestConnectionsAreToldToGoElsewhere(t *testing.T) {
	s := launch(t, "-lame-duck", "1s")
	c := client(t, false)
	get(t, c, "http://"+s.addr+"/work")
	s.stop()
	waitUntilNotReady(t, s.addr)
	resp, err := c.Get("http://" + s.addr + "/work")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !resp.Close {
		t.Errorf("a lame duck answered %s with Connection: close %t; want 200 and true", resp.Status, resp.Close)
	}
	late, reused := client(t, true), 0
	for range 20 {
		if getReused(t, late, "http://"+s.addr+"/work") {
			reused++
		}
	}
	if reused != 19 {
		t.Errorf("a late HTTP/2 connection was reused %d times, want 19", reused)
	}
}

// getReused says whether the request went over a connection that was there.
func getReused(t *testing.T, c *http.Client, url string) (reused bool) {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return reused
}
