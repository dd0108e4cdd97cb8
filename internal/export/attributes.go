package export

import (
	"strings"

	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
)

// attributes name a series.
func attributes(w *series) []*common.KeyValue {
	switch {
	case w.overflow:
		return []*common.KeyValue{{Key: "otel.metric.overflow", Value: &common.AnyValue{Value: &common.AnyValue_BoolValue{BoolValue: true}}}}
	case w.outgoing:
		return []*common.KeyValue{word("cgroup.id", w.cgroup())}
	}
	return []*common.KeyValue{
		word("cgroup.id", w.cgroup()), word("server.address", w.address()), whole("server.port", int64(w.workload.Addr.Port())),
	}
}

// word is an attribute. What is no UTF-8 is replaced: protobuf allows none.
func word(key, value string) *common.KeyValue {
	value = strings.ToValidUTF8(value, "\uFFFD")
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

func whole(key string, value int64) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: value}}}
}

func with(attrs []*common.KeyValue, more *common.KeyValue) []*common.KeyValue {
	return append(attrs[:len(attrs):len(attrs)], more)
}

func byName(a, b *metrics.Metric) int { return strings.Compare(a.GetName(), b.GetName()) }
