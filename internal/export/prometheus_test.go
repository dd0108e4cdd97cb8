package export_test

import (
	"fmt"
	"maps"
	"math"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/histogram"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// registry exports what latest returns.
func registry(t testing.TB, latest export.Latest, o export.Options) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry() // compares metrics with their descriptions
	if err := r.Register(export.NewCollector(latest, o)); err != nil {
		t.Fatal(err)
	}
	return r
}

func always(s *wire.Status) export.Latest { return func() *wire.Status { return s } }

// gather returns all metrics by "name{label=value,…}".
func gather(t testing.TB, r *prometheus.Registry) map[string]*dto.Metric {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return flat(families)
}

func flat(families []*dto.MetricFamily) map[string]*dto.Metric {
	found := map[string]*dto.Metric{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			found[f.GetName()+"{"+strings.Join(labels, ",")+"}"] = m
		}
	}
	return found
}

// text scrapes the text form.
func text(t testing.TB, r *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true, ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

const (
	atWeb  = "{cgroup_id=7,server_address=10.0.0.1,server_port=8080}"
	atIPv6 = "{cgroup_id=8,server_address=2001:db8::1,server_port=443}"
)

// value is a counter or gauge.
func value(m *dto.Metric) float64 {
	switch {
	case m == nil:
		return math.NaN()
	case m.Counter != nil:
		return m.Counter.GetValue()
	}
	return m.Gauge.GetValue()
}

func TestEveryNumberIsExportedUnderItsName(t *testing.T) {
	s := sample()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text(t, registry(t, always(s), export.Options{}))))
	if err != nil {
		t.Fatal(err)
	}
	got := flat(slices.Collect(maps.Values(families)))
	want := map[string]float64{
		"http_server_requests_started_total" + atWeb:                       1005,
		"http_server_requests_aborted_total" + atWeb:                       2,
		"http_server_responses_truncated_total" + atWeb:                    1,
		"http_server_active_requests" + atWeb:                              3,
		"sluice_tcp_connections_accepted_total" + atWeb:                    9,
		"sluice_tcp_connections_reset_total" + atWeb:                       8,
		"sluice_tcp_segments_sent_total" + atWeb:                           3000,
		"sluice_tcp_segments_retransmitted_total" + atWeb:                  7,
		"sluice_network_receive_bytes_total" + atWeb:                       100_000,
		"sluice_network_transmit_bytes_total" + atWeb:                      900_000,
		"sluice_tcp_connects_started_total{cgroup_id=7}":                   12,
		"sluice_tcp_connects_total{cgroup_id=7}":                           10,
		"sluice_tcp_connects_failed_total{cgroup_id=7}":                    1,
		"sluice_probe_requests_lost_total{}":                               1,
		"sluice_probe_connections_unmeasured_total{}":                      2,
		"sluice_probe_connections_desynced_total{}":                        3,
		"sluice_probe_connections_older_total{}":                           4,
		"sluice_probe_exemplars_dropped_total{}":                           5,
		"sluice_probe_runs_total{}":                                        1000,
		"sluice_probe_cpu_seconds_total{}":                                 1.5,
		"sluice_probe_swaps_total{}":                                       2,
		"sluice_probe_coverage_ratio{}":                                    1836.0 / 1846,
		"sluice_probe_mismatch{}":                                          0,
		"sluice_probe_cpu_ratio{}":                                         0.003,
		"sluice_probe_cpu_budget_ratio{}":                                  0.01,
		"sluice_probe_workloads{}":                                         3,
		"sluice_probe_workloads_overflowed{}":                              0,
		"sluice_probe_start_time_seconds{}":                                float64(began.UnixNano()) / 1e9,
		"sluice_probe_snapshot_time_seconds{}":                             float64(s.At.UnixNano()) / 1e9,
		"sluice_probe_object_info{digest=" + string(s.Loaded.Digest) + "}": 1,
	}
	for class, n := range map[string]float64{"unknown": 1, "2xx": 987, "3xx": 3, "4xx": 4, "5xx": 5} {
		want["http_server_responses_total{cgroup_id=7,http_response_status_class="+class+",server_address=10.0.0.1,server_port=8080}"] = n
	}
	for code, n := range map[string]float64{"0": 5, "14": 6} {
		want["rpc_server_responses_total{cgroup_id=8,rpc_grpc_status_code="+code+",server_address=2001:db8::1,server_port=443}"] = n
	}
	for name, n := range want {
		if v := value(got[name]); v != n {
			t.Errorf("%s is %v, want %v", name, v, n)
		}
	}
	if h := got["http_server_request_duration_seconds"+atWeb].GetHistogram(); h.GetSampleCount() != 1000 || h.GetSampleSum() < 9 || h.GetSampleSum() > 11 {
		t.Errorf("the duration of web counts %d, sum %v", h.GetSampleCount(), h.GetSampleSum())
	}
	if _, ok := got["http_server_responses_total{cgroup_id=7,http_response_status_class=1xx,server_address=10.0.0.1,server_port=8080}"]; ok {
		t.Error("a class that never came has a series")
	}
}

func TestMismatchAndNothingSeen(t *testing.T) {
	s := sample()
	s.Mismatch, s.Workloads, s.Loss, s.Budget.Limit, s.Loaded.Digest = "program ingress: detached", nil, probe.Loss{}, 0, ""
	got := gather(t, registry(t, always(s), export.Options{}))
	if value(got["sluice_probe_mismatch{}"]) != 1 {
		t.Error("a mismatch does not show")
	}
	for _, name := range []string{"sluice_probe_coverage_ratio{}", "sluice_probe_cpu_budget_ratio{}", "sluice_probe_object_info{digest=}"} {
		if m, ok := got[name]; ok {
			t.Errorf("%s is there though nobody knows it: %v", name, m)
		}
	}
	if got := gather(t, registry(t, always(nil), export.Options{})); len(got) != 0 {
		t.Errorf("before the first reading there are %d metrics", len(got))
	}
}

func TestNamesFollowTheConventions(t *testing.T) {
	r := registry(t, always(sample()), export.Options{Workloads: 1})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	testenv.Need(t, "promtool")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text(t, r))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/snapshot.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := registry(t, always(sample()), export.Options{}).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if !strings.Contains(string(page), "`"+f.GetName()+"`") {
			t.Errorf("docs/snapshot.md does not name %s", f.GetName())
		}
	}
}

// native are the counts of a native histogram by bucket, from its spans and
// deltas.
func native(h *dto.Histogram) map[int]int64 {
	counts := map[int]int64{}
	index, n, d := 0, int64(0), 0
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			n += h.GetPositiveDelta()[d]
			if n != 0 {
				counts[index] = n
			}
			d, index = d+1, index+1
		}
	}
	return counts
}

func TestNativeHistogramsAreLossless(t *testing.T) {
	s := sample()
	got := gather(t, registry(t, always(s), export.Options{}))
	for at, w := range map[string]probe.Workload{atWeb: web, atIPv6: {Cgroup: 8, Addr: others(s)[0].Addr}} {
		c := s.Workloads[w]
		h := got["http_server_request_duration_native_seconds"+at].GetHistogram()
		buckets := native(h)
		if h.GetSchema() != 5 || h.GetZeroThreshold() != math.Exp2(-20) || h.GetZeroCount() != c.Latency.At(0) || h.GetSampleCount() != c.Latency.Count() {
			t.Errorf("%s: schema %d, zero %d up to %g, count %d", at, h.GetSchema(), h.GetZeroCount(), h.GetZeroThreshold(), h.GetSampleCount())
		}
		if h.GetSampleSum() != c.LatencySum.Seconds() || !h.GetCreatedTimestamp().AsTime().Equal(began) {
			t.Errorf("%s: sum %v, created %v", at, h.GetSampleSum(), h.GetCreatedTimestamp())
		}
		for i := 1; i < histogram.Buckets; i++ {
			if n := buckets[i-640]; n != int64(c.Latency.At(i)) {
				t.Errorf("%s: bucket %d is %d, was counted as %d", at, i, n, c.Latency.At(i))
			}
			delete(buckets, i-640)
		}
		if len(buckets) > 0 {
			t.Errorf("%s: buckets from nowhere: %v", at, buckets)
		}
	}
}

func others(s *wire.Status) []probe.Workload {
	var list []probe.Workload
	for w := range s.Workloads {
		if w.Cgroup == 8 {
			list = append(list, w)
		}
	}
	return list
}

func TestEveryEdgeIsInTheRightNativeBucket(t *testing.T) {
	for _, d := range edges(t) {
		s := sample()
		var c probe.Counts
		c.Latency.Observe(d)
		s.Workloads = map[probe.Workload]probe.Counts{web: c}
		for k := range native(gather(t, registry(t, always(s), export.Options{}))["http_server_request_duration_native_seconds"+atWeb].GetHistogram()) {
			if !inBucket(d, k-1) { // schema 5 numbers a bucket by its upper end
				t.Fatalf("%d ns is in bucket %d, which ends at 2^(%d/32) s", d, k, k)
			}
		}
	}
}

func TestClassicBucketsAreExact(t *testing.T) {
	s := sample()
	got := gather(t, registry(t, always(s), export.Options{}))
	c := s.Workloads[others(s)[0]]
	h := got["http_server_request_duration_seconds"+atIPv6].GetHistogram()
	if h.Schema != nil || len(h.GetPositiveSpan()) > 0 {
		t.Error("the classic histogram has native buckets, too")
	}
	want := -13.0
	for _, b := range h.GetBucket() {
		i := histogram.Index(time.Duration(b.GetUpperBound() * 1e9))
		if exact := c.Latency.Count() - c.Latency.AtOrAbove(i); b.GetCumulativeCount() != exact || b.GetUpperBound() != math.Exp2(want) {
			t.Errorf("up to %g s: %d, want %d up to %g s", b.GetUpperBound(), b.GetCumulativeCount(), exact, math.Exp2(want))
		}
		want++
	}
	if want != 7 {
		t.Errorf("the last bound is 2^%g s, want 2^6", want-1)
	}
}

func TestTheEstimatedSumIsWithinAPercent(t *testing.T) {
	s := sample()
	h := gather(t, registry(t, always(s), export.Options{}))["sluice_http_server_response_duration_seconds"+atWeb].GetHistogram()
	exact := 2 * s.Workloads[web].LatencySum.Seconds()
	if off := math.Abs(h.GetSampleSum()/exact - 1); off > 0.011 || h.GetSampleCount() != 1000 {
		t.Errorf("sum %v, exact %v: off by %.2f %%", h.GetSampleSum(), exact, 100*off)
	}
}

func TestExemplarsTellTraces(t *testing.T) {
	got := gather(t, registry(t, always(sample()), export.Options{}))
	trace := probe.TraceID{1, 2, 3}
	var classic []*dto.Exemplar
	for _, b := range got["http_server_request_duration_seconds"+atWeb].GetHistogram().GetBucket() {
		if b.Exemplar != nil && b.GetUpperBound() == 0.0625 {
			classic = append(classic, b.Exemplar)
		}
	}
	for form, list := range map[string][]*dto.Exemplar{
		"classic": classic, "native": got["http_server_request_duration_native_seconds"+atWeb].GetHistogram().GetExemplars(),
	} {
		if len(list) != 1 || list[0].GetValue() != 0.04 || list[0].GetLabel()[0].GetName() != "trace_id" || list[0].GetLabel()[0].GetValue() != trace.String() {
			t.Errorf("%s: exemplars %v, want one with the trace", form, list)
		}
	}
}

func TestConcurrentScrapes(t *testing.T) {
	s := sample()
	r := registry(t, always(s), export.Options{Workloads: 1})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if _, err := r.Gather(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkCollect100Workloads(b *testing.B) {
	s := sample()
	for i := range 98 {
		s.Workloads[probe.Workload{Cgroup: uint64(100 + i), Addr: web.Addr}] = requests(uint64(i), 5000)
	}
	r := registry(b, always(s), export.Options{})
	b.ReportMetric(float64(len(text(b, r))), "bytes")
	for b.Loop() {
		if _, err := r.Gather(); err != nil {
			b.Fatal(err)
		}
	}
}

func ExampleNewCollector() {
	r := prometheus.NewRegistry()
	r.MustRegister(export.NewCollector(func() *wire.Status { return sample() }, export.Options{}))
	families, _ := r.Gather()
	for _, f := range families {
		if f.GetName() == "sluice_probe_swaps_total" {
			fmt.Println(f.GetHelp(), f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	// Output: eBPF objects that took the place of another one. 2
}
