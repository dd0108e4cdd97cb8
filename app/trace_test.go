package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// collected is an OTLP receiver that keeps what it gets.
type collected struct {
	collector.UnimplementedTraceServiceServer
	mu     sync.Mutex
	spans  []string // "name trace-id", sorted when asked for
	labels map[string]string
}

// Export is the gRPC side of the receiver.
func (c *collected) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.labels = map[string]string{}
	for _, rs := range req.ResourceSpans {
		for _, kv := range rs.Resource.Attributes {
			c.labels[kv.Key] = kv.Value.GetStringValue()
		}
		for _, scope := range rs.ScopeSpans {
			for _, span := range scope.Spans {
				id := "of its own"
				if span.TraceId[0] == 0x4b {
					id = "of the client"
				}
				c.spans = append(c.spans, span.Name+" in a trace "+id)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP is the HTTP side of the receiver.
func (c *collected) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req collector.ExportTraceServiceRequest
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, &req)
	}
	if err != nil || r.URL.Path != "/v1/traces" {
		http.Error(w, "not an OTLP trace request", http.StatusBadRequest)
		return
	}
	c.Export(r.Context(), &req)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func (c *collected) serveHTTP(t *testing.T) string {
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	return srv.URL
}

func (c *collected) serveGRPC(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	collector.RegisterTraceServiceServer(srv, c)
	go srv.Serve(ln)
	t.Cleanup(srv.Stop)
	return "http://" + ln.Addr().String()
}

func TestTracesReachTheCollector(t *testing.T) {
	for protocol, serve := range map[string]func(*collected, *testing.T) string{
		"http/protobuf": (*collected).serveHTTP,
		"grpc":          (*collected).serveGRPC,
	} {
		t.Run(protocol, func(t *testing.T) {
			var got collected
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", serve(&got, t))
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
			s := launch(t)
			request(t, "http://"+s.addr+"/work", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			request(t, "http://"+s.addr+"/", "")
			request(t, "http://"+s.addr+"/healthz", "")
			request(t, "http://"+s.addr+"/metrics", "")
			if _, err := callWork(t.Context(), dial(t, s.addr)); err != nil {
				t.Fatal(err)
			}
			s.stop()
			if code := s.wait(t); code != exitOK {
				t.Fatalf("exit code %d: %s", code, s.errors())
			}

			got.mu.Lock()
			defer got.mu.Unlock()
			slices.Sort(got.spans)
			want := []string{"GET / in a trace of its own", "GET /work in a trace of the client", "shop.v1.Shop/Work in a trace of its own"}
			if !slices.Equal(got.spans, want) {
				t.Errorf("spans %q, want %q", got.spans, want)
			}
			for key, want := range map[string]string{
				"service.name": "shop", "service.version": releaseVersion(), "deployment.environment.name": "test",
			} {
				if got.labels[key] != want {
					t.Errorf("resource attribute %s is %q, want %q", key, got.labels[key], want)
				}
			}
		})
	}
}

// request sends a GET that continues the trace of traceparent, if any.
func request(t *testing.T, url, traceparent string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if traceparent != "" {
		req.Header.Set("traceparent", traceparent)
	}
	resp, err := client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestTracingOffCostsNothing(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"no endpoint":         {},
		"no traces exporter":  {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"},
		"SDK switched off":    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "TRUE"},
		"an endpoint of logs": {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://localhost:4318"},
	} {
		t.Run(name, func(t *testing.T) {
			off, err := newTracing(t.Context(), func(k string) string { return env[k] })
			if err != nil {
				t.Fatal(err)
			}
			if _, same := off.wrap("/work", http.HandlerFunc(http.NotFound)).(http.HandlerFunc); !same {
				t.Error("the handler is wrapped")
			}
			if n := len(off.rpcOptions()); n != 0 {
				t.Errorf("%d gRPC options", n)
			}
			var goroutines bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&goroutines, 1); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(goroutines.String(), "opentelemetry") {
				t.Errorf("goroutines of OpenTelemetry run:\n%s", &goroutines)
			}
		})
	}
}

func TestTracingRefusesWhatExportersWouldIgnore(t *testing.T) {
	for name, tt := range map[string]struct{ key, value, want string }{
		"no scheme":           {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4317", "want an http or https address"},
		"no address":          {"OTEL_EXPORTER_OTLP_ENDPOINT", "://", "want an http or https address"},
		"an unknown protocol": {"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "want http/protobuf or grpc"},
	} {
		t.Run(name, func(t *testing.T) {
			env := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
			env[tt.key] = tt.value
			_, err := newTracing(t.Context(), func(k string) string { return env[k] })
			if err == nil || !strings.Contains(err.Error(), tt.key) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that names %s and says: %s", err, tt.key, tt.want)
			}
		})
	}
}

// A collector that is away costs spans, not answers and not the exit code.
func TestTracingSurvivesItsCollector(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
	s := launch(t)
	request(t, "http://"+s.addr+"/work", "")
	s.stop()
	if code := s.wait(t); code != exitOK {
		t.Errorf("exit code %d: %s", code, s.errors())
	}
	if !strings.Contains(s.errors(), "traces") {
		t.Errorf("stderr %q does not tell that traces were lost", s.errors())
	}
}
