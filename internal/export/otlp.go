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

// OTLP sends metrics in the OpenTelemetry protocol over HTTP, version 1. It
// does so by itself, because the SDK's exporter links gRPC: 5 MB and 18 modules
// in a privileged process.
type OTLP struct {
	latest Latest
	bound  *bound
	url    *url.URL
	http   *http.Client
	opts   OTLPOptions
}

// NewOTLP prepares sending; nothing is sent before Run.
func NewOTLP(_ context.Context, latest Latest, o OTLPOptions) (*OTLP, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("OTLP endpoint %q is no URL: expected for example https://collector.example.org:4318", o.Endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/metrics"
	}
	o.Interval, o.Timeout = cmp.Or(o.Interval, 10*time.Second), cmp.Or(o.Timeout, 5*time.Second)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = o.TLS
	client := &http.Client{
		Transport: t,
		// Headers may hold a token, which is for the endpoint only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("an OTLP endpoint does not redirect") },
	}
	return &OTLP{latest: latest, bound: newBound(o.Options), url: u, http: client, opts: o}, nil
}

// Run sends the latest Status every Interval until ctx is done, and then once
// more. Nothing waits for it: an export that fails or takes longer than Timeout
// is given up and not repeated, because all numbers are cumulative and the next
// export tells everything that this one would have told.
func (o *OTLP) Run(ctx context.Context) {
	tick := time.NewTicker(o.opts.Interval)
	defer tick.Stop()
	defer o.http.CloseIdleConnections()
	for {
		select {
		case <-tick.C:
			o.export(ctx)
		case <-ctx.Done():
			o.export(context.WithoutCancel(ctx))
			return
		}
	}
}

// export sends once. Being stopped meanwhile is no failure.
func (o *OTLP) export(running context.Context) {
	ctx, cancel := context.WithTimeout(running, o.opts.Timeout)
	defer cancel()
	err := o.send(ctx)
	if err != nil && running.Err() == nil && o.opts.Failed != nil {
		o.opts.Failed(fmt.Errorf("sending metrics to %s: %w", o.url.Redacted(), err))
	}
}
