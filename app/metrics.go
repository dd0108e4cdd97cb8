package main

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc/codes"
)

// buckets are those of the OpenTelemetry semantic conventions, and three more
// below them: at the default latency everything would be in the first one.
var buckets = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// metrics counts the requests of the work endpoints, with the names of the
// OpenTelemetry semantic conventions as Prometheus spells them.
type metrics struct {
	registry *prometheus.Registry
	http     *prometheus.HistogramVec
	rpc      *prometheus.HistogramVec
}

func newMetrics(in *injector) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		http: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_server_request_duration_seconds", Help: "Duration of HTTP requests.", Buckets: buckets,
		}, []string{"http_request_method", "http_route", "http_response_status_code"}),
		rpc: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rpc_server_call_duration_seconds", Help: "Duration of gRPC calls.", Buckets: buckets,
		}, []string{"rpc_method", "rpc_response_status_code"}),
	}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shop_build_info", Help: "Always 1; the label says which version answers.",
		ConstLabels: prometheus.Labels{"version": releaseVersion()},
	}, func() float64 { return 1 })
	leaked := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shop_leaked_bytes", Help: "Memory lost on purpose, see -leak-bytes.",
	}, func() float64 { return float64(in.leaked.Load()) })
	m.registry.MustRegister(m.http, m.rpc, info, leaked, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// handler serves the registry as Prometheus text.
func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// observeHTTP counts a request to route, which is one of ours and not what the
// client typed, so that nobody can make up label values.
func (m *metrics) observeHTTP(method, route string, status int, d time.Duration) {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
	default:
		method = "_OTHER"
	}
	m.http.WithLabelValues(method, route, strconv.Itoa(status)).Observe(d.Seconds())
}

func (m *metrics) observeRPC(method string, code codes.Code, d time.Duration) {
	m.rpc.WithLabelValues(method, code.String()).Observe(d.Seconds())
}
