package export

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"

	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// send makes one export.
func (o *OTLP) send(ctx context.Context) error {
	s := o.latest()
	if s == nil {
		return nil
	}
	// MetricsData has the field of ExportMetricsServiceRequest, whose package
	// would link gRPC.
	raw, err := proto.Marshal(&metrics.MetricsData{ResourceMetrics: []*metrics.ResourceMetrics{{
		Resource: o.resource(s.Node), ScopeMetrics: []*metrics.ScopeMetrics{produce(s, o.bound)},
	}}})
	if err != nil {
		return err
	}
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	_, _ = z.Write(raw) // to memory: it cannot fail
	_ = z.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, o.url.String(), &body)
	if err != nil {
		return err
	}
	for name, value := range o.opts.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	req.Header.Set("User-Agent", "sluice-probe/"+cmp.Or(o.opts.Version, "devel"))
	res, err := o.http.Do(req)
	if err != nil {
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // which does not say the address again
		}
		return err
	}
	defer res.Body.Close()
	return accepted(res)
}

// accepted reads an answer: OTLP 1.x, "OTLP/HTTP Response".
func accepted(res *http.Response) error {
	answer, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("the receiver answered %s", res.Status)
	}
	if err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if res.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil
	}
	partial := field(answer, 1) // ExportMetricsServiceResponse.partial_success
	rejected, _ := protowire.ConsumeVarint(field(partial, 1))
	if message := field(partial, 2); rejected > 0 || len(message) > 0 {
		return fmt.Errorf("the receiver refused %d data points: %q", rejected, message)
	}
	return nil
}

// field is the value of a message's field, nil if it is not there.
func field(message []byte, want protowire.Number) []byte {
	for len(message) > 0 {
		num, typ, size := protowire.ConsumeTag(message)
		if size < 0 {
			return nil
		}
		message = message[size:]
		if size = protowire.ConsumeFieldValue(num, typ, message); size < 0 {
			return nil
		}
		if num == want && typ == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			return value
		}
		if num == want {
			return message[:size]
		}
		message = message[size:]
	}
	return nil
}

// resource is what all metrics are about: the probe of a machine.
func (o *OTLP) resource(node string) *resource.Resource {
	r := new(resource.Resource)
	all := map[string]string{"service.name": "sluice-probe", "service.instance.id": node, "host.name": node, "service.version": o.opts.Version}
	maps.Copy(all, o.opts.Attributes)
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if all[key] != "" {
			r.Attributes = append(r.Attributes, word(key, all[key]))
		}
	}
	return r
}
