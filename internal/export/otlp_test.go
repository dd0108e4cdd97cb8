package export_test

import (
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/wire"
)

// receiver is an OTLP receiver over HTTP.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	got     []*collector.ExportMetricsServiceRequest
	headers http.Header
	path    string
	answer  func(http.ResponseWriter, *http.Request) bool // false: as usual
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.answer != nil && r.answer(w, q) {
			return
		}
		body := io.Reader(q.Body)
		if q.Header.Get("Content-Encoding") == "gzip" {
			var err error
			if body, err = gzip.NewReader(q.Body); err != nil {
				t.Error(err)
				return
			}
		}
		raw, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		m := new(collector.ExportMetricsServiceRequest)
		if err := proto.Unmarshal(raw, m); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.got, r.headers, r.path = append(r.got, m), q.Header, q.URL.Path
		answer, _ := proto.Marshal(&collector.ExportMetricsServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(r.Close)
	return r
}

// run exports until enough was received, or for a while, and returns the last
// export and the errors.
func (r *receiver) run(t *testing.T, latest export.Latest, o export.OTLPOptions, enough int) (*metrics.ResourceMetrics, []error) {
	t.Helper()
	var mu sync.Mutex
	var failed []error
	o.Endpoint, o.Interval = r.URL+o.Endpoint, 10*time.Millisecond
	o.Timeout = cmp.Or(o.Timeout, time.Minute) // the machine may be busy
	o.Failed = func(err error) { mu.Lock(); failed = append(failed, err); mu.Unlock() }
	e, err := export.NewOTLP(t.Context(), latest, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { e.Run(ctx); close(done) }()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		received := len(r.got)
		r.mu.Unlock()
		mu.Lock()
		received += len(failed)
		mu.Unlock()
		if received >= enough {
			break
		}
	}
	stop()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) == 0 {
		return nil, failed
	}
	return r.got[len(r.got)-1].GetResourceMetrics()[0], failed
}

// byName are the metrics of an export.
func byName(r *metrics.ResourceMetrics) map[string]*metrics.Metric {
	found := map[string]*metrics.Metric{}
	for _, m := range r.GetScopeMetrics()[0].GetMetrics() {
		found[m.GetName()] = m
	}
	return found
}

// attrs are attributes as text.
func attrs(list []*common.KeyValue) map[string]any {
	found := map[string]any{}
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			found[a.GetKey()] = v.StringValue
		case *common.AnyValue_IntValue:
			found[a.GetKey()] = v.IntValue
		case *common.AnyValue_BoolValue:
			found[a.GetKey()] = v.BoolValue
		}
	}
	return found
}

func TestOTLPIsLosslessBucketByBucket(t *testing.T) {
	s := sample()
	r := newReceiver(t)
	got, failed := r.run(t, always(s), export.OTLPOptions{
		Headers: map[string]string{"Authorization": "Bearer abc"}, Version: "v1.2.3", Attributes: map[string]string{"k8s.node.name": "n"},
	}, 2)
	if len(failed) > 0 || got == nil {
		t.Fatalf("%v", failed)
	}
	if r.path != "/v1/metrics" || r.headers.Get("Authorization") != "Bearer abc" || r.headers.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("path %s, headers %v", r.path, r.headers)
	}
	about := attrs(got.GetResource().GetAttributes())
	for key, want := range map[string]string{"service.name": "sluice-probe", "service.version": "v1.2.3", "service.instance.id": "node-1", "host.name": "node-1", "k8s.node.name": "n"} {
		if about[key] != want {
			t.Errorf("resource attribute %s is %v, want %s", key, about[key], want)
		}
	}
	m := byName(got)["http.server.request.duration"]
	h := m.GetExponentialHistogram()
	if m.GetUnit() != "s" || h.GetAggregationTemporality() != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE || len(h.GetDataPoints()) != 2 {
		t.Fatalf("unit %q, %v, %d points", m.GetUnit(), h.GetAggregationTemporality(), len(h.GetDataPoints()))
	}
	for _, p := range h.GetDataPoints() {
		samePoint(t, s, p)
	}
}

// samePoint compares a histogram with the one it was made from.
func samePoint(t *testing.T, s *wire.Status, p *metrics.ExponentialHistogramDataPoint) {
	t.Helper()
	where := attrs(p.GetAttributes())
	w := web
	if where["cgroup.id"] == "8" {
		w = others(s)[0]
	}
	if where["server.address"] != w.Addr.Addr().String() || where["server.port"] != int64(w.Addr.Port()) {
		t.Errorf("attributes %v, want those of %v", where, w)
	}
	c := s.Workloads[w]
	if p.GetScale() != 5 || p.GetZeroThreshold() != math.Exp2(-20) || p.GetCount() != c.Latency.Count() || p.GetSum() != c.LatencySum.Seconds() {
		t.Errorf("scale %d, zero up to %v, count %d, sum %v", p.GetScale(), p.GetZeroThreshold(), p.GetCount(), p.GetSum())
	}
	if p.GetStartTimeUnixNano() != uint64(began.UnixNano()) || p.GetTimeUnixNano() != uint64(s.At.UnixNano()) {
		t.Errorf("from %d to %d", p.GetStartTimeUnixNano(), p.GetTimeUnixNano())
	}
	var again histogram.Histogram
	again.Add(0, p.GetZeroCount())
	for j, n := range p.GetPositive().GetBucketCounts() {
		again.Add(int(p.GetPositive().GetOffset())+j+641, n)
	}
	for i := range histogram.Buckets {
		if again.At(i) != c.Latency.At(i) {
			t.Errorf("%v: bucket %d is %d, was counted as %d", w, i, again.At(i), c.Latency.At(i))
		}
	}
	if w == web {
		trace := probe.TraceID{1, 2, 3}
		if e := p.GetExemplars(); len(e) != 1 || string(e[0].GetTraceId()) != string(trace[:]) || e[0].GetAsDouble() != 0.04 {
			t.Errorf("exemplars %v", e)
		}
	}
}

func TestEveryEdgeIsInTheRightOTelBucket(t *testing.T) {
	durations := edges(t)
	s := &wire.Status{Start: wire.Start{Loaded: began}}
	s.Workloads = map[probe.Workload]probe.Counts{}
	for i, d := range durations {
		var c probe.Counts
		c.Latency.Observe(d)
		s.Workloads[probe.Workload{Cgroup: uint64(i), Addr: web.Addr}] = c
	}
	got, failed := newReceiver(t).run(t, always(s), export.OTLPOptions{Options: export.Options{Workloads: len(durations)}}, 1)
	if len(failed) > 0 {
		t.Fatal(failed)
	}
	checked := map[any]bool{}
	for _, p := range byName(got)["http.server.request.duration"].GetExponentialHistogram().GetDataPoints() {
		id := attrs(p.GetAttributes())["cgroup.id"]
		i, err := strconv.Atoi(id.(string))
		if err != nil {
			t.Fatal(err)
		}
		checked[id] = true
		if b := p.GetPositive(); len(b.GetBucketCounts()) != 1 || b.GetBucketCounts()[0] != 1 || !inBucket(durations[i], int(b.GetOffset())) {
			t.Errorf("%d ns is in bucket %d of scale 5: %v", durations[i], b.GetOffset(), b.GetBucketCounts())
		}
	}
	if len(checked) != len(durations) {
		t.Errorf("%d of %d edges were there", len(checked), len(durations))
	}
}

func TestOTLPNumbers(t *testing.T) {
	s := sample()
	r := newReceiver(t)
	got, _ := r.run(t, always(s), export.OTLPOptions{Options: export.Options{Workloads: 1}, Endpoint: "/custom"}, 1)
	if r.path != "/custom" {
		t.Errorf("path %s", r.path)
	}
	m := byName(got)
	started := m["http.server.requests.started"].GetSum()
	if !started.GetIsMonotonic() || started.GetAggregationTemporality() != metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
		t.Error("a counter is no cumulative monotonic sum")
	}
	points := map[any]int64{}
	for _, p := range started.GetDataPoints() {
		a := attrs(p.GetAttributes())
		points[a["otel.metric.overflow"]] = p.GetAsInt()
	}
	if points[nil] != 1005 || points[true] != histogram.Buckets {
		t.Errorf("started: %v, want 1005 of the busiest workload and 834 in the overflow", points)
	}
	if active := m["http.server.active_requests"].GetSum(); active.GetIsMonotonic() || active.GetDataPoints()[0].GetAsInt() != 3 {
		t.Errorf("active: %v", active)
	}
	for name, want := range map[string]float64{
		"sluice.probe.requests.lost": 1, "sluice.probe.swaps": 2, "sluice.probe.cpu.time": 1.5,
	} {
		if p := m[name].GetSum().GetDataPoints(); len(p) != 1 || p[0].GetAsDouble() != want {
			t.Errorf("%s: %v, want %v", name, p, want)
		}
	}
	for name, want := range map[string]float64{
		"sluice.probe.coverage": 1836.0 / 1846, "sluice.probe.mismatch": 0, "sluice.probe.workloads.overflowed": 2, "sluice.probe.object": 1,
	} {
		if p := m[name].GetGauge().GetDataPoints(); len(p) != 1 || p[0].GetAsDouble() != want {
			t.Errorf("%s: %v, want %v", name, p, want)
		}
	}
	classes := map[any]int64{}
	for _, p := range m["http.server.responses"].GetSum().GetDataPoints() {
		if a := attrs(p.GetAttributes()); a["cgroup.id"] == "7" {
			classes[a["http.response.status_class"]] = p.GetAsInt()
		}
	}
	if classes["2xx"] != 987 || classes["5xx"] != 5 || classes["unknown"] != 1 {
		t.Errorf("classes %v", classes)
	}
}

func TestAFailingReceiverHoldsUpNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		answer  func(http.ResponseWriter, *http.Request) bool
		want    string
		timeout time.Duration // 0: a minute
	}{
		"it is overloaded": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}, "503 Service Unavailable", 0},
		"it refuses": {func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusUnauthorized); return true }, "401 Unauthorized", 0},
		"it does not answer": {func(_ http.ResponseWriter, r *http.Request) bool {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return true
		}, "deadline", 100 * time.Millisecond},
		"it refuses a part": {func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Type", "application/x-protobuf")
			answer, _ := proto.Marshal(&collector.ExportMetricsServiceResponse{PartialSuccess: &collector.ExportMetricsPartialSuccess{RejectedDataPoints: 7, ErrorMessage: "too old"}})
			_, _ = w.Write(answer)
			return true
		}, `refused 7 data points: "too old"`, 0},
		"it redirects": {func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "/other", http.StatusTemporaryRedirect)
			return true
		}, "does not redirect", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			r.answer = tt.answer
			_, failed := r.run(t, always(sample()), export.OTLPOptions{Timeout: tt.timeout}, 3)
			if len(failed) < 3 {
				t.Fatalf("%d failures, want the next try after each", len(failed))
			}
			if err := failed[0].Error(); !strings.Contains(err, tt.want) || !strings.Contains(err, r.URL) {
				t.Errorf("error %q, want the endpoint and %q", err, tt.want)
			}
		})
	}
}

func TestNothingIsSentBeforeTheFirstReading(t *testing.T) {
	r := newReceiver(t)
	e, err := export.NewOTLP(t.Context(), always(nil), export.OTLPOptions{Endpoint: r.URL, Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	e.Run(ctx)
	if len(r.got) > 0 {
		t.Errorf("%d exports of nothing", len(r.got))
	}
}

func TestTheLastReadingIsSentAtTheEnd(t *testing.T) {
	r := newReceiver(t)
	e, err := export.NewOTLP(t.Context(), always(sample()), export.OTLPOptions{Endpoint: r.URL, Interval: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Run(ctx)
	if len(r.got) != 1 {
		t.Errorf("%d exports, want one", len(r.got))
	}
}

func TestOTLPOverTLS(t *testing.T) {
	got := make(chan bool, 1)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		got <- q.TLS != nil
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // one of the clients hangs up
	srv.StartTLS()
	defer srv.Close()
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	for name, tt := range map[string]struct {
		tls  *tls.Config
		want string // of the error; empty: none
	}{
		"an authority that is known":   {&tls.Config{RootCAs: roots}, ""},
		"an authority that is unknown": {nil, "unknown authority"},
	} {
		var failed error
		e, err := export.NewOTLP(t.Context(), always(sample()), export.OTLPOptions{Endpoint: srv.URL, TLS: tt.tls, Failed: func(err error) { failed = err }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		e.Run(ctx)
		if tt.want == "" && (failed != nil || !<-got) || tt.want != "" && (failed == nil || !strings.Contains(failed.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, failed, tt.want)
		}
	}
}

func TestEndpointsThatAreNone(t *testing.T) {
	for _, endpoint := range []string{"", "localhost:4318", "ftp://host", "https://", "http://a b"} {
		if _, err := export.NewOTLP(t.Context(), always(nil), export.OTLPOptions{Endpoint: endpoint}); err == nil || !strings.Contains(err.Error(), "expected for example") {
			t.Errorf("%q: %v, want an error with an example", endpoint, err)
		}
	}
}
