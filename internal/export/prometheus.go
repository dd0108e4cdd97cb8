package export

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// Collector is a prometheus.Collector of a probe. It may be used by many
// goroutines.
type Collector struct {
	latest Latest
	bound  *bound

	incoming, outgoing, totals, gauges []*prometheus.Desc

	requests, responses, connects forms
	active, classes, grpc         *prometheus.Desc
	connectsDone                  *prometheus.Desc
	object, overflow              *prometheus.Desc
}

// forms are the two forms of a histogram.
type forms struct {
	duration
	classic, native *prometheus.Desc
}

var (
	serverLabels = []string{"cgroup_id", "server_address", "server_port"}
	clientLabels = []string{"cgroup_id"}
)

// NewCollector exports what latest returns.
func NewCollector(latest Latest, o Options) *Collector {
	c := &Collector{
		latest: latest, bound: newBound(o),
		requests: newForms(requestDuration, serverLabels), responses: newForms(responseDuration, serverLabels), connects: newForms(connectDuration, clientLabels),
		active:       prometheus.NewDesc("http_server_active_requests", "Requests without an answer.", serverLabels, nil),
		classes:      prometheus.NewDesc("http_server_responses_total", "Answers by class of the HTTP status; unknown: it could not be read.", labels(serverLabels, "http_response_status_class"), nil),
		grpc:         prometheus.NewDesc("rpc_server_responses_total", "Ended gRPC calls by status code.", labels(serverLabels, "rpc_grpc_status_code"), nil),
		connectsDone: prometheus.NewDesc("sluice_tcp_connects_total", "Connections that a control group has opened.", clientLabels, nil),
		object:       prometheus.NewDesc("sluice_probe_object_info", "The eBPF object that is loaded; the value is 1.", []string{"digest"}, nil),
		overflow:     prometheus.NewDesc("sluice_probe_workloads_overflowed", "Workloads that share the series called overflow.", nil, nil),
	}
	for _, m := range incoming {
		c.incoming = append(c.incoming, prometheus.NewDesc(m.prometheus, m.help, serverLabels, nil))
	}
	for _, m := range outgoing {
		c.outgoing = append(c.outgoing, prometheus.NewDesc(m.prometheus, m.help, clientLabels, nil))
	}
	for _, m := range totals {
		c.totals = append(c.totals, prometheus.NewDesc(m.prometheus, m.help, nil, nil))
	}
	for _, m := range gauges {
		c.gauges = append(c.gauges, prometheus.NewDesc(m.prometheus, m.help, nil, nil))
	}
	return c
}

func newForms(d duration, labels []string) forms {
	return forms{
		d,
		prometheus.NewDesc(d.prometheus, d.help+".", labels, nil),
		prometheus.NewDesc(d.native, d.help+", as a native histogram.", labels, nil),
	}
}

func labels(list []string, more string) []string { return append(list[:len(list):len(list)], more) }

// Describe sends all descriptions.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, list := range [][]*prometheus.Desc{c.incoming, c.outgoing, c.totals, c.gauges, {
		c.requests.classic, c.requests.native, c.responses.classic, c.responses.native, c.connects.classic, c.connects.native,
		c.active, c.classes, c.grpc, c.connectsDone, c.object, c.overflow,
	}} {
		for _, d := range list {
			ch <- d
		}
	}
}

// Collect sends the metrics of the latest Status, and none before the first.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.latest()
	if s == nil {
		return
	}
	overflowed := c.bound.each(s, func(w *series) {
		out := sink{ch, s.Start, []string{w.cgroup(), w.address(), w.port()}}
		if w.outgoing {
			out.labels = out.labels[:1]
			c.client(out, w)
		} else {
			c.server(out, w)
		}
	})
	out := sink{ch: ch, start: s.Start}
	out.gauge(c.overflow, float64(overflowed))
	for i, m := range totals {
		out.counter(c.totals[i], m.of(s))
	}
	for i, m := range gauges {
		if v, ok := m.of(s); ok {
			out.gauge(c.gauges[i], v)
		}
	}
	if s.Loaded.Digest != "" {
		out.gauge(c.object, 1, string(s.Loaded.Digest))
	}
}

// server sends what a workload answered.
func (c *Collector) server(out sink, w *series) {
	for i, m := range incoming {
		out.counter(c.incoming[i], float64(m.of(w.counts)))
	}
	out.gauge(c.active, float64(w.counts.InFlight()))
	for class, n := range w.counts.Classes {
		if n > 0 || class >= 2 { // a series that is there from the start shows the first error, too
			out.counter(c.classes, float64(n), className(class))
		}
	}
	for code, n := range w.counts.GRPC {
		if n > 0 {
			out.counter(c.grpc, float64(n), strconv.Itoa(code))
		}
	}
	out.histogram(c.requests, w)
	out.histogram(c.responses, w)
}

// client sends what a control group connected to.
func (c *Collector) client(out sink, w *series) {
	for i, m := range outgoing {
		out.counter(c.outgoing[i], float64(m.of(w.counts)))
	}
	out.counter(c.connectsDone, float64(w.counts.Requests))
	out.histogram(c.connects, w)
}

func className(class int) string {
	if class == 0 {
		return "unknown"
	}
	return strconv.Itoa(class) + "xx"
}

// sink makes metrics of the same labels.
type sink struct {
	ch     chan<- prometheus.Metric
	start  wire.Start
	labels []string
}

func (s sink) with(more []string) []string {
	return append(s.labels[:len(s.labels):len(s.labels)], more...)
}

func (s sink) send(d *prometheus.Desc, m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(d, err)
	}
	s.ch <- m
}

func (s sink) counter(d *prometheus.Desc, v float64, more ...string) {
	m, err := prometheus.NewConstMetricWithCreatedTimestamp(d, prometheus.CounterValue, v, s.start.Loaded, s.with(more)...)
	s.send(d, m, err)
}

func (s sink) gauge(d *prometheus.Desc, v float64, more ...string) {
	m, err := prometheus.NewConstMetric(d, prometheus.GaugeValue, v, s.with(more)...)
	s.send(d, m, err)
}

func (s sink) histogram(f forms, w *series) {
	h := f.of(w.counts)
	var traces []prometheus.Exemplar
	if f.otel == requestDuration.otel {
		traces = exemplars(w.exemplars)
	}
	m, err := prometheus.NewConstHistogramWithCreatedTimestamp(f.classic, h.Count(), h.sum, h.classic(), s.start.Loaded, s.labels...)
	m, err = annotate(m, traces, err)
	s.send(f.classic, m, err)
	buckets, zero := h.native()
	m, err = prometheus.NewConstNativeHistogram(f.native, h.Count(), h.sum, buckets, nil, zero, schema, zeroThreshold, s.start.Loaded, s.labels...)
	m, err = annotate(m, traces, err)
	s.send(f.native, m, err)
}

// annotate puts exemplars to the buckets they belong to.
func annotate(m prometheus.Metric, traces []prometheus.Exemplar, err error) (prometheus.Metric, error) {
	if err != nil || len(traces) == 0 {
		return m, err
	}
	return prometheus.NewMetricWithExemplars(m, traces...)
}

func exemplars(list []probe.Exemplar) []prometheus.Exemplar {
	out := make([]prometheus.Exemplar, len(list))
	for i, e := range list {
		out[i] = prometheus.Exemplar{Value: e.Took.Seconds(), Labels: prometheus.Labels{"trace_id": e.Trace.String()}, Timestamp: e.At}
	}
	return out
}
