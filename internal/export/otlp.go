package export

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// OTLPOptions say where metrics are sent. Only Endpoint is required.
type OTLPOptions struct {
	Options
	Endpoint   string            // URL; without a path, /v1/metrics
	Headers    map[string]string // added to every request, for example a token
	TLS        *tls.Config       // nil: the system's authorities, no client certificate
	Interval   time.Duration     // 0: 10 s
	Timeout    time.Duration     // of one export; 0: 5 s
	Version    string            // of this program
	Attributes map[string]string // of the resource, besides service.name, service.version, service.instance.id and host.name
	Failed     func(error)       // is told of exports that failed; nil: nobody is
}

// OTLP sends metrics over HTTP, in the OpenTelemetry protocol.
type OTLP struct {
	producer *Producer
	exporter sdkmetric.Exporter
	endpoint string // without a password
	opts     OTLPOptions
}

// NewOTLP prepares sending; nothing is sent before Run.
func NewOTLP(ctx context.Context, latest Latest, o OTLPOptions) (*OTLP, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("OTLP endpoint %q is no URL: expected for example https://collector.example.org:4318", o.Endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/metrics"
	}
	o.Interval, o.Timeout = cmp.Or(o.Interval, 10*time.Second), cmp.Or(o.Timeout, 5*time.Second)
	exporter, err := otlpmetrichttp.New(
		ctx,
		otlpmetrichttp.WithEndpointURL(u.String()),
		otlpmetrichttp.WithHeaders(o.Headers),
		otlpmetrichttp.WithHTTPClient(httpClient(o)),
		// What was not sent is part of the next export, because all is cumulative.
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: false}),
		otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression),
	)
	if err != nil {
		return nil, fmt.Errorf("preparing the OTLP export: %w", err)
	}
	return &OTLP{producer: NewProducer(latest, o.Options), exporter: exporter, endpoint: u.Redacted(), opts: o}, nil
}

func httpClient(o OTLPOptions) *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = o.TLS
	return &http.Client{
		Transport: t,
		Timeout:   o.Timeout,
		// Headers may hold a token, which is for the endpoint only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an OTLP endpoint does not redirect") },
	}
}

// Run sends the latest Status every Interval until ctx is done, and then once
// more. Nothing waits for it: an export that fails or takes longer than Timeout
// is given up, and the next one tells everything that it would have told.
func (o *OTLP) Run(ctx context.Context) {
	tick := time.NewTicker(o.opts.Interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			o.export(ctx)
			continue
		case <-ctx.Done():
		}
		last := context.WithoutCancel(ctx)
		o.export(last)
		_ = o.exporter.Shutdown(last) // only forgets its client
		return
	}
}

// export sends once. Being stopped meanwhile is no failure.
func (o *OTLP) export(running context.Context) {
	s := o.producer.latest()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(running, o.opts.Timeout)
	defer cancel()
	metrics, err := o.producer.Produce(ctx)
	if err == nil {
		err = o.exporter.Export(ctx, &metricdata.ResourceMetrics{Resource: o.resource(s.Node), ScopeMetrics: metrics})
	}
	if err != nil && running.Err() == nil && o.opts.Failed != nil {
		o.opts.Failed(fmt.Errorf("sending metrics to %s: %w", o.endpoint, err))
	}
}

// resource is what all metrics are about: the probe of a machine.
func (o *OTLP) resource(node string) *resource.Resource {
	attrs := []attribute.KeyValue{
		attribute.String("service.name", "sluice-probe"),
		attribute.String("service.instance.id", node),
		attribute.String("host.name", node),
	}
	if o.opts.Version != "" {
		attrs = append(attrs, attribute.String("service.version", o.opts.Version))
	}
	for key, value := range o.opts.Attributes {
		attrs = append(attrs, attribute.String(key, value))
	}
	return resource.NewSchemaless(attrs...)
}
