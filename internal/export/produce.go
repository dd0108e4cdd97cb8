package export

import (
	"maps"
	"slices"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// cumulative is the temporality of everything: since the probe's start.
const cumulative = metrics.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE

// scope names this package as the origin of the metrics.
const scope = "github.com/sluice-cd/sluice/internal/export"

// produce turns a Status into OpenTelemetry's data model.
func produce(s *wire.Status, b *bound) *metrics.ScopeMetrics {
	p := points{start: uint64(s.Start.Loaded.UnixNano()), at: uint64(s.At.UnixNano()), index: map[string]*metrics.Metric{}}
	overflowed := b.each(s, p.workload)
	for _, m := range totals {
		p.total(m.otel, m.unit, m.help, m.of(s))
	}
	for _, m := range gauges {
		if v, ok := m.of(s); ok {
			p.gauge(m.otel, m.unit, m.help, v)
		}
	}
	p.gauge("sluice.probe.workloads.overflowed", "{workload}", "Workloads that share the series called overflow.", float64(overflowed))
	if s.Loaded.Digest != "" {
		p.gauge("sluice.probe.object", "1", "The eBPF object that is loaded; the value is 1.", 1, word("sluice.object.digest", string(s.Loaded.Digest)))
	}
	return &metrics.ScopeMetrics{
		Scope:   &common.InstrumentationScope{Name: scope},
		Metrics: slices.SortedFunc(maps.Values(p.index), byName),
	}
}

// points collects data points, metric by metric.
type points struct {
	start, at uint64
	index     map[string]*metrics.Metric
}

func (p *points) workload(w *series) {
	attrs := attributes(w)
	if w.outgoing {
		for _, m := range outgoing {
			p.count(m.otel, m.unit, m.help, m.of(w.counts), attrs...)
		}
		p.count("sluice.tcp.connects", "{connection}", "Connections that a control group has opened.", w.counts.Requests, attrs...)
		p.histogram(connectDuration, w, nil, attrs)
		return
	}
	for _, m := range incoming {
		p.count(m.otel, m.unit, m.help, m.of(w.counts), attrs...)
	}
	p.inFlight("http.server.active_requests", "{request}", "Requests without an answer.", w.counts.InFlight(), attrs...)
	for class, n := range w.counts.Classes {
		if n > 0 || class >= 2 {
			p.count("http.server.responses", "{response}", "Answers by class of the HTTP status.", n, with(attrs, word("http.response.status_class", className(class)))...)
		}
	}
	for code, n := range w.counts.GRPC {
		if n > 0 {
			p.count("rpc.server.responses", "{response}", "Ended gRPC calls by status code.", n, with(attrs, whole("rpc.grpc.status_code", int64(code)))...)
		}
	}
	p.histogram(requestDuration, w, traces(w.exemplars), attrs)
	p.histogram(responseDuration, w, nil, attrs)
}

// metric is the metric of a name, without data at first.
func (p *points) metric(name, unit, help string) *metrics.Metric {
	m := p.index[name]
	if m == nil {
		m = &metrics.Metric{Name: name, Unit: unit, Description: help}
		p.index[name] = m
	}
	return m
}

// count adds a whole number that only grows.
func (p *points) count(name, unit, help string, n uint64, attrs ...*common.KeyValue) {
	m := p.metric(name, unit, help)
	if m.Data == nil {
		m.Data = &metrics.Metric_Sum{Sum: &metrics.Sum{AggregationTemporality: cumulative, IsMonotonic: true}}
	}
	p.add(m.GetSum(), &metrics.NumberDataPoint{Attributes: attrs, Value: &metrics.NumberDataPoint_AsInt{AsInt: int64(n)}})
}

// inFlight adds a whole number that may shrink.
func (p *points) inFlight(name, unit, help string, n uint64, attrs ...*common.KeyValue) {
	m := p.metric(name, unit, help)
	if m.Data == nil {
		m.Data = &metrics.Metric_Sum{Sum: &metrics.Sum{AggregationTemporality: cumulative}}
	}
	p.add(m.GetSum(), &metrics.NumberDataPoint{Attributes: attrs, Value: &metrics.NumberDataPoint_AsInt{AsInt: int64(n)}})
}

// total adds a number of the whole node that only grows.
func (p *points) total(name, unit, help string, v float64) {
	sum := &metrics.Sum{AggregationTemporality: cumulative, IsMonotonic: true}
	p.metric(name, unit, help).Data = &metrics.Metric_Sum{Sum: sum}
	p.add(sum, &metrics.NumberDataPoint{Value: &metrics.NumberDataPoint_AsDouble{AsDouble: v}})
}

func (p *points) add(sum *metrics.Sum, point *metrics.NumberDataPoint) {
	point.StartTimeUnixNano, point.TimeUnixNano = p.start, p.at
	sum.DataPoints = append(sum.DataPoints, point)
}

func (p *points) gauge(name, unit, help string, v float64, attrs ...*common.KeyValue) {
	p.metric(name, unit, help).Data = &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: []*metrics.NumberDataPoint{
		{Attributes: attrs, TimeUnixNano: p.at, Value: &metrics.NumberDataPoint_AsDouble{AsDouble: v}},
	}}}
}

func (p *points) histogram(d duration, w *series, traces []*metrics.Exemplar, attrs []*common.KeyValue) {
	m := p.metric(d.otel, "s", d.help+".")
	if m.Data == nil {
		m.Data = &metrics.Metric_ExponentialHistogram{ExponentialHistogram: &metrics.ExponentialHistogram{AggregationTemporality: cumulative}}
	}
	all := m.GetExponentialHistogram()
	h := d.of(w.counts)
	offset, counts := h.otel()
	all.DataPoints = append(all.DataPoints, &metrics.ExponentialHistogramDataPoint{
		Attributes: attrs, StartTimeUnixNano: p.start, TimeUnixNano: p.at,
		Count: h.Count(), Sum: &h.sum, Scale: schema, ZeroCount: h.At(0), ZeroThreshold: zeroThreshold,
		Positive:  &metrics.ExponentialHistogramDataPoint_Buckets{Offset: offset, BucketCounts: counts},
		Exemplars: traces,
	})
}

func traces(list []probe.Exemplar) []*metrics.Exemplar {
	out := make([]*metrics.Exemplar, len(list))
	for i, e := range list {
		out[i] = &metrics.Exemplar{TimeUnixNano: uint64(e.At.UnixNano()), Value: &metrics.Exemplar_AsDouble{AsDouble: e.Took.Seconds()}, TraceId: e.Trace[:]}
	}
	return out
}
