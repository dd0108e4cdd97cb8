package export

import (
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/wire"
)

// counter is a number of a workload that only grows, under both its names.
type counter struct {
	prometheus string
	otel       string
	unit       string // as in the Unified Code for Units of Measure
	help       string
	of         func(*probe.Counts) uint64
}

// incoming is what is counted of a workload that answers requests.
var incoming = []counter{
	{"http_server_requests_started_total", "http.server.requests.started", "{request}", "Requests whose first byte has come.", func(c *probe.Counts) uint64 { return c.Begun }},
	{"http_server_requests_aborted_total", "http.server.requests.aborted", "{request}", "Requests that ended without an answer: connection closed, stream reset.", func(c *probe.Counts) uint64 { return c.Aborted }},
	{"http_server_responses_truncated_total", "http.server.responses.truncated", "{response}", "Answers that the server cut off.", func(c *probe.Counts) uint64 { return c.Truncated }},
	{"sluice_tcp_connections_accepted_total", "sluice.tcp.connections.accepted", "{connection}", "Connections accepted.", func(c *probe.Counts) uint64 { return c.Connections }},
	{"sluice_tcp_connections_reset_total", "sluice.tcp.connections.reset", "{connection}", "Connections that ended by a reset.", func(c *probe.Counts) uint64 { return c.Resets }},
	{"sluice_tcp_segments_sent_total", "sluice.tcp.segments.sent", "{segment}", "TCP segments with data that were sent.", func(c *probe.Counts) uint64 { return c.Segments }},
	{"sluice_tcp_segments_retransmitted_total", "sluice.tcp.segments.retransmitted", "{segment}", "TCP segments that were sent again.", func(c *probe.Counts) uint64 { return c.Retransmits }},
	{"sluice_network_receive_bytes_total", "sluice.network.receive", "By", "Payload received, each byte once.", func(c *probe.Counts) uint64 { return c.BytesIn }},
	{"sluice_network_transmit_bytes_total", "sluice.network.transmit", "By", "Payload sent, each byte once.", func(c *probe.Counts) uint64 { return c.BytesOut }},
}

// outgoing is what is counted of the connections that a control group opens.
var outgoing = []counter{
	{"sluice_tcp_connects_started_total", "sluice.tcp.connects.started", "{connection}", "Connections that a control group began to open.", func(c *probe.Counts) uint64 { return c.Begun }},
	{"sluice_tcp_connects_failed_total", "sluice.tcp.connects.failed", "{connection}", "Connections that could not be opened.", func(c *probe.Counts) uint64 { return c.Aborted }},
}

// total is a number of the whole node that only grows.
type total struct {
	prometheus string
	otel       string
	unit       string
	help       string
	of         func(*wire.Status) float64
}

var totals = []total{
	{"sluice_probe_requests_lost_total", "sluice.probe.requests.lost", "{request}", "Requests for whose workload, connection or stream there was no room.", func(s *wire.Status) float64 { return float64(s.Loss.Requests) }},
	{"sluice_probe_connections_unmeasured_total", "sluice.probe.connections.unmeasured", "{connection}", "Connections that speak something else: TLS, an unknown protocol.", func(s *wire.Status) float64 { return float64(s.Loss.Unmeasured) }},
	{"sluice_probe_connections_desynced_total", "sluice.probe.connections.desynced", "{connection}", "Times that an HTTP/2 connection was lost track of.", func(s *wire.Status) float64 { return float64(s.Loss.Desynced) }},
	{"sluice_probe_connections_older_total", "sluice.probe.connections.older", "{connection}", "Connections older than the probe that it cannot read.", func(s *wire.Status) float64 { return float64(s.Loss.Older) }},
	{"sluice_probe_exemplars_dropped_total", "sluice.probe.exemplars.dropped", "{exemplar}", "Exemplars that nobody read in time.", func(s *wire.Status) float64 { return float64(s.Loss.Exemplars) }},
	{"sluice_probe_runs_total", "sluice.probe.runs", "{run}", "Runs of the probe's programs, estimated from one in 64.", func(s *wire.Status) float64 { return float64(s.Cost.Runs) }},
	{"sluice_probe_cpu_seconds_total", "sluice.probe.cpu.time", "s", "Processor time of the probe's programs, estimated from one run in 64.", func(s *wire.Status) float64 { return s.Cost.Time.Seconds() }},
	{"sluice_probe_swaps_total", "sluice.probe.swaps", "{swap}", "eBPF objects that took the place of another one.", func(s *wire.Status) float64 { return float64(s.Swaps) }},
}

// gauge is a number of the whole node; false: there is none.
type gauge struct {
	prometheus string
	otel       string
	unit       string
	help       string
	of         func(*wire.Status) (float64, bool)
}

var gauges = []gauge{
	{"sluice_probe_coverage_ratio", "sluice.probe.coverage", "1", "Share of requests measured, of those the probe knows of; a connection it cannot read counts as one.", func(s *wire.Status) (float64, bool) { return s.Coverage() }},
	{"sluice_probe_mismatch", "sluice.probe.mismatch", "1", "1 if what is loaded in the kernel is not what was verified.", func(s *wire.Status) (float64, bool) { return truth(s.Mismatch != ""), true }},
	{"sluice_probe_cpu_ratio", "sluice.probe.cpu.utilization", "1", "Share of one core that probe and daemon took lately.", func(s *wire.Status) (float64, bool) { return s.Budget.Share, true }},
	{"sluice_probe_cpu_budget_ratio", "sluice.probe.cpu.budget", "1", "Share of one core that they may take.", func(s *wire.Status) (float64, bool) { return s.Budget.Limit, s.Budget.Limit > 0 }},
	{"sluice_probe_workloads", "sluice.probe.workloads", "{workload}", "Workloads that are told apart.", func(s *wire.Status) (float64, bool) { return float64(len(s.Workloads)), true }},
	{"sluice_probe_start_time_seconds", "sluice.probe.start_time", "s", "When counting began, since 1970.", func(s *wire.Status) (float64, bool) { return float64(s.Start.Loaded.UnixNano()) / 1e9, true }},
	{"sluice_probe_snapshot_time_seconds", "sluice.probe.snapshot_time", "s", "When the counters were read last, since 1970.", func(s *wire.Status) (float64, bool) { return float64(s.At.UnixNano()) / 1e9, true }},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// durations are the histograms: those of incoming requests and, under other
// names, of outgoing connections.
type duration struct {
	prometheus string // of the classic form
	native     string
	otel       string
	help       string
	of         func(*probe.Counts) sample
}

var requestDuration = duration{
	"http_server_request_duration_seconds", "http_server_request_duration_native_seconds", "http.server.request.duration",
	"Time from the first byte of a request to the first of its answer", func(c *probe.Counts) sample { return sample{&c.Latency, c.LatencySum.Seconds()} },
}

var responseDuration = duration{
	"sluice_http_server_response_duration_seconds", "sluice_http_server_response_duration_native_seconds", "sluice.http.server.response.duration",
	"Time from the first byte of a request to the last of its answer", func(c *probe.Counts) sample { return sample{&c.Complete, estimate(&c.Complete)} },
}

var connectDuration = duration{
	"sluice_tcp_connect_duration_seconds", "sluice_tcp_connect_duration_native_seconds", "sluice.tcp.connect.duration",
	"Time from the first SYN to the end of the handshake", func(c *probe.Counts) sample { return sample{&c.Latency, c.LatencySum.Seconds()} },
}
