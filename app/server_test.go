package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func TestThreeProtocolsShareOnePort(t *testing.T) {
	s := launch(t, "-latency", "1ms")
	conn := dial(t, s.addr)
	clients := map[string]*http.Client{"HTTP/1.1": client(t, false), "HTTP/2.0": client(t, true)}
	var wg sync.WaitGroup
	for range 4 {
		for proto, c := range clients {
			wg.Go(func() {
				for range 25 {
					resp, err := c.Post("http://"+s.addr+"/work", "text/plain", strings.NewReader("body"))
					if err != nil {
						t.Errorf("%s: %v", proto, err)
						return
					}
					resp.Body.Close()
					if resp.Proto != proto || resp.StatusCode != http.StatusOK {
						t.Errorf("answer %s %s, want %s 200", resp.Proto, resp.Status, proto)
					}
				}
			})
		}
		wg.Go(func() {
			for range 25 {
				if version, err := callWork(t.Context(), conn); err != nil || version != releaseVersion() {
					t.Errorf("gRPC answered %q, %v; want the version", version, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestEndpoints(t *testing.T) {
	s := launch(t)
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/":        {200, "shop " + releaseVersion()},
		"/work":    {200, `{"service":"shop","version":"` + releaseVersion() + `"}`},
		"/healthz": {200, "ok"},
		"/readyz":  {200, "ready"},
		"/metrics": {200, "shop_build_info{version="},
		"/nothing": {404, "not found"},
	} {
		for _, h2c := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s h2c=%t", path, h2c), func(t *testing.T) {
				status, body := get(t, client(t, h2c), "http://"+s.addr+path)
				if status != want.status || !strings.Contains(body, want.body) {
					t.Errorf("answer %d %q, want %d with %q", status, body, want.status, want.body)
				}
			})
		}
	}
	health := healthpb.NewHealthClient(dial(t, s.addr))
	for _, name := range []string{"", rpcService} {
		resp, err := health.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q is %v, %v; want SERVING", name, resp.GetStatus(), err)
		}
	}
}

func TestFaultsReachWorkAndNothingElse(t *testing.T) {
	s := launch(t, "-error-ratio", "1", "-latency", "0s", "-extra-latency", "60ms", "-leak-bytes", "1000")
	conn, c := dial(t, s.addr), client(t, false)

	start := time.Now()
	if status, body := get(t, c, "http://"+s.addr+"/work"); status != 500 || !strings.Contains(body, `"error":"injected fault"`) {
		t.Errorf("/work answered %d %q, want an injected 500", status, body)
	}
	if _, err := callWork(t.Context(), conn); status.Code(err) != codes.Internal {
		t.Errorf("Work answered %v, want INTERNAL", err)
	}
	if d := time.Since(start); d < 120*time.Millisecond {
		t.Errorf("two requests of 60 ms took %v", d)
	}
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics"} {
		if status, _ := get(t, c, "http://"+s.addr+path); status != 200 {
			t.Errorf("%s answered %d", path, status)
		}
	}
	if _, body := get(t, c, "http://"+s.addr+"/metrics"); !strings.Contains(body, "\nshop_leaked_bytes 2000\n") {
		t.Errorf("metrics do not show 2000 leaked bytes:\n%s", body)
	}
}

func TestWorkEndsWithTheCallersDeadline(t *testing.T) {
	s := launch(t, "-latency", "1m", "-latency-sigma", "0")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := callWork(ctx, dial(t, s.addr)); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("Work answered %v, want DEADLINE_EXCEEDED", err)
	}
}

// An error ratio must be seen by clients as it was asked for. With 1 500
// requests at 20 %, 220 and 380 are eight standard deviations from 300.
func TestErrorRatioOverTheWire(t *testing.T) {
	s := launch(t, "-error-ratio", "0.2", "-latency", "0s")
	c, failed := client(t, false), 0
	for range 1500 {
		if status, _ := get(t, c, "http://"+s.addr+"/work"); status == 500 {
			failed++
		}
	}
	if failed < 180 || failed > 420 {
		t.Errorf("%d of 1500 failed, want about 300", failed)
	}
}

// TestMetrics reads the text as Prometheus would.
func TestMetrics(t *testing.T) {
	s := launch(t, "-latency", "0s")
	c := client(t, false)
	for range 3 {
		get(t, c, "http://"+s.addr+"/work")
	}
	get(t, c, "http://"+s.addr+"/readyz")
	req, err := http.NewRequestWithContext(t.Context(), "BREW", "http://"+s.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := callWork(t.Context(), dial(t, s.addr)); err != nil {
		t.Fatal(err)
	}
	_, text := get(t, c, "http://"+s.addr+"/metrics")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, name := range []string{"http_server_request_duration_seconds", "rpc_server_call_duration_seconds"} {
		for _, m := range families[name].GetMetric() {
			key := name
			for _, l := range m.Label {
				key += " " + l.GetValue()
			}
			got[key] = m.Histogram.GetSampleCount()
		}
	}
	want := map[string]uint64{
		"http_server_request_duration_seconds GET 200 /work":    3,
		"http_server_request_duration_seconds _OTHER 200 /":     1,
		"rpc_server_call_duration_seconds shop.v1.Shop/Work OK": 1,
	}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s counted %d, want %d", key, got[key], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("series %v, want those of %v only", got, want)
	}
}

// BenchmarkWork is what a request of /work costs above net/http, with no
// latency injected and traces off.
func BenchmarkWork(b *testing.B) {
	quiet := newServer(options{}, &tracing{}, discard{})
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "/work", nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		quiet.ServeHTTP(discard{}, req)
	}
}

// discard is a client and a log that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}
