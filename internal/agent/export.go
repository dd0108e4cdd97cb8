package agent

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/wire"
)

// status is the last reading, for the exports.
func (a *Agent) status() *wire.Status {
	if r := a.latest.Load(); r != nil {
		return &r.Status
	}
	return nil
}

// metrics serves Prometheus.
func (a *Agent) metrics() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		export.NewCollector(a.status, export.Options{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_probe_mismatches_total", Help: "Times that the kernel held something else than what was verified.",
		}, func() float64 { return float64(a.mismatchCount()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_probe_history_unwritten_events", Help: "Events that the history of objects has not taken yet: above 0 for long, its disk is full or its etcd is away.",
		}, func() float64 { return float64(a.notes.unwritten.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "sluice_probe_history_lost_events_total", Help: "Events that the history of objects will never have.",
		}, func() float64 { return float64(a.notes.lost.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "sluice_probe_ready", Help: "1 while what the probe tells can be relied on: attached, tested, fresh, and no mismatch.",
		}, func() float64 {
			if a.ready() != nil {
				return 0
			}
			return 1
		}),
	)
	scrape := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := a.Read(freshness); err != nil {
			wire.WriteError(w, http.StatusServiceUnavailable, err)
			return
		}
		scrape.ServeHTTP(w, r)
	})
}

func (a *Agent) mismatchCount() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mismatch.count
}

// otlp prepares sending metrics; nil if nobody is to get them.
func (a *Agent) otlp(ctx context.Context) (*export.OTLP, error) {
	if a.cfg.OTLP.Endpoint == "" {
		return nil, nil
	}
	o := a.cfg.OTLP
	o.Failed = func(err error) { a.log.Warn("OTLP", "err", err) }
	return export.NewOTLP(ctx, a.status, o)
}
