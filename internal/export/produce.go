package export

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// Producer gives the latest Status to an OpenTelemetry SDK. All numbers are
// cumulative since the probe's start.
type Producer struct {
	latest Latest
	bound  *bound
}

var _ sdkmetric.Producer = (*Producer)(nil)

// NewProducer produces what latest returns.
func NewProducer(latest Latest, o Options) *Producer {
	return &Producer{latest: latest, bound: newBound(o)}
}

// scope names this package as the origin of the metrics.
var scope = instrumentation.Scope{Name: "github.com/sluice-cd/sluice/internal/export"}

// Produce returns the metrics of the latest Status, none before the first one.
func (p *Producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s := p.latest()
	if s == nil {
		return nil, nil
	}
	b := points{status: s, index: map[string]int{}}
	overflowed := p.bound.each(s, b.workload)
	for _, m := range totals {
		b.sum(m.otel, m.unit, m.help, m.of(s))
	}
	for _, m := range gauges {
		if v, ok := m.of(s); ok {
			b.gauge(m.otel, m.unit, m.help, v, attribute.Set{})
		}
	}
	b.gauge("sluice.probe.workloads.overflowed", "{workload}", "Workloads that share the series called overflow.", float64(overflowed), attribute.Set{})
	if s.Loaded.Digest != "" {
		b.gauge("sluice.probe.object", "1", "The eBPF object that is loaded; the value is 1.", 1, attribute.NewSet(attribute.String("sluice.object.digest", string(s.Loaded.Digest))))
	}
	return []metricdata.ScopeMetrics{{Scope: scope, Metrics: b.metrics}}, nil
}

// points collects data points, metric by metric.
type points struct {
	status  *wire.Status
	metrics []metricdata.Metrics
	index   map[string]int // of a metric by its name
}

func (b *points) workload(w *series) {
	attrs := attributes(w)
	if w.outgoing {
		for _, m := range outgoing {
			b.count(m.otel, m.unit, m.help, m.of(w.counts), attrs...)
		}
		b.count("sluice.tcp.connects", "{connection}", "Connections that a control group has opened.", w.counts.Requests, attrs...)
		b.histogram(connectDuration, w, nil, attrs)
		return
	}
	for _, m := range incoming {
		b.count(m.otel, m.unit, m.help, m.of(w.counts), attrs...)
	}
	b.inFlight("http.server.active_requests", "{request}", "Requests without an answer.", w.counts.InFlight(), attrs...)
	for class, n := range w.counts.Classes {
		if n > 0 || class >= 2 {
			b.count("http.server.responses", "{response}", "Answers by class of the HTTP status.", n, with(attrs, attribute.String("http.response.status_class", className(class)))...)
		}
	}
	for code, n := range w.counts.GRPC {
		if n > 0 {
			b.count("rpc.server.responses", "{response}", "Ended gRPC calls by status code.", n, with(attrs, attribute.Int("rpc.grpc.status_code", code))...)
		}
	}
	b.histogram(requestDuration, w, traces(w.exemplars), attrs)
	b.histogram(responseDuration, w, nil, attrs)
}

// attributes name a series.
func attributes(w *series) []attribute.KeyValue {
	switch {
	case w.overflow:
		return []attribute.KeyValue{attribute.Bool("otel.metric.overflow", true)}
	case w.outgoing:
		return []attribute.KeyValue{attribute.String("cgroup.id", w.cgroup())}
	}
	return []attribute.KeyValue{
		attribute.String("cgroup.id", w.cgroup()),
		attribute.String("server.address", w.address()),
		attribute.Int("server.port", int(w.workload.Addr.Port())),
	}
}

func with(attrs []attribute.KeyValue, more attribute.KeyValue) []attribute.KeyValue {
	return append(attrs[:len(attrs):len(attrs)], more)
}

// metric is the data of a metric, which begins as empty.
func (b *points) metric(name, unit, help string, empty metricdata.Aggregation) *metricdata.Aggregation {
	i, ok := b.index[name]
	if !ok {
		i = len(b.metrics)
		b.index[name] = i
		b.metrics = append(b.metrics, metricdata.Metrics{Name: name, Unit: unit, Description: help, Data: empty})
	}
	return &b.metrics[i].Data
}

// count adds a whole number that only grows.
func (b *points) count(name, unit, help string, n uint64, attrs ...attribute.KeyValue) {
	b.add(b.metric(name, unit, help, metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}), n, attrs)
}

// inFlight adds a whole number that may shrink.
func (b *points) inFlight(name, unit, help string, n uint64, attrs ...attribute.KeyValue) {
	b.add(b.metric(name, unit, help, metricdata.Sum[int64]{Temporality: metricdata.CumulativeTemporality}), n, attrs)
}

func (b *points) add(data *metricdata.Aggregation, n uint64, attrs []attribute.KeyValue) {
	sum := (*data).(metricdata.Sum[int64])
	sum.DataPoints = append(sum.DataPoints, metricdata.DataPoint[int64]{
		Attributes: attribute.NewSet(attrs...), StartTime: b.status.Start.Loaded, Time: b.status.At, Value: int64(n),
	})
	*data = sum
}

// sum adds a number of the whole node that only grows.
func (b *points) sum(name, unit, help string, v float64) {
	*b.metric(name, unit, help, nil) = metricdata.Sum[float64]{
		Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
		DataPoints: []metricdata.DataPoint[float64]{{StartTime: b.status.Start.Loaded, Time: b.status.At, Value: v}},
	}
}

func (b *points) gauge(name, unit, help string, v float64, attrs attribute.Set) {
	data := b.metric(name, unit, help, metricdata.Gauge[float64]{})
	gauge := (*data).(metricdata.Gauge[float64])
	gauge.DataPoints = append(gauge.DataPoints, metricdata.DataPoint[float64]{Attributes: attrs, Time: b.status.At, Value: v})
	*data = gauge
}

func (b *points) histogram(d duration, w *series, traces []metricdata.Exemplar[float64], attrs []attribute.KeyValue) {
	data := b.metric(d.otel, "s", d.help+".", metricdata.ExponentialHistogram[float64]{Temporality: metricdata.CumulativeTemporality})
	all := (*data).(metricdata.ExponentialHistogram[float64])
	h := d.of(w.counts)
	offset, counts := h.otel()
	all.DataPoints = append(all.DataPoints, metricdata.ExponentialHistogramDataPoint[float64]{
		Attributes: attribute.NewSet(attrs...), StartTime: b.status.Start.Loaded, Time: b.status.At,
		Count: h.Count(), Sum: h.sum, Scale: schema,
		ZeroCount: h.At(0), ZeroThreshold: zeroThreshold,
		PositiveBucket: metricdata.ExponentialBucket{Offset: offset, Counts: counts},
		Exemplars:      traces,
	})
	*data = all
}

func traces(list []probe.Exemplar) []metricdata.Exemplar[float64] {
	out := make([]metricdata.Exemplar[float64], len(list))
	for i, e := range list {
		out[i] = metricdata.Exemplar[float64]{Time: e.At, Value: e.Took.Seconds(), TraceID: e.Trace[:]}
	}
	return out
}
