package render

import "fmt"

// The part of Grafana's dashboard model that is used here.
type (
	board struct {
		Title         string     `json:"title"`
		UID           string     `json:"uid"`
		Description   string     `json:"description"`
		Tags          []string   `json:"tags"`
		Editable      bool       `json:"editable"`
		Refresh       string     `json:"refresh"`
		SchemaVersion int        `json:"schemaVersion"`
		Time          timeRange  `json:"time"`
		Templating    templating `json:"templating"`
		Panels        []panel    `json:"panels"`
	}
	timeRange struct {
		From string `json:"from"`
		To   string `json:"to"`
	}
	templating struct {
		List []variable `json:"list"`
	}
	variable struct {
		Name       string      `json:"name"`
		Label      string      `json:"label"`
		Type       string      `json:"type"`
		Query      string      `json:"query"`
		Regex      string      `json:"regex,omitempty"`
		Refresh    int         `json:"refresh,omitempty"`
		Datasource *datasource `json:"datasource,omitempty"`
	}
	datasource struct {
		Type string `json:"type"`
		UID  string `json:"uid"`
	}
	panel struct {
		ID          int         `json:"id"`
		Type        string      `json:"type"`
		Title       string      `json:"title"`
		Description string      `json:"description,omitempty"`
		GridPos     gridPos     `json:"gridPos"`
		Datasource  *datasource `json:"datasource,omitempty"`
		FieldConfig fieldConfig `json:"fieldConfig"`
		Targets     []query     `json:"targets,omitempty"`
	}
	gridPos struct {
		H int `json:"h"`
		W int `json:"w"`
		X int `json:"x"`
		Y int `json:"y"`
	}
	fieldConfig struct {
		Defaults struct {
			Unit string `json:"unit,omitempty"`
			Min  *int   `json:"min,omitempty"`
		} `json:"defaults"`
		Overrides []struct{} `json:"overrides"`
	}
	query struct {
		RefID        string `json:"refId"`
		Expr         string `json:"expr"`
		LegendFormat string `json:"legendFormat"`
	}
)

var prometheusSource = &datasource{Type: "prometheus", UID: "${datasource}"}

// tracks says which version a pod's address belongs to. It multiplies by one.
const tracks = `* on (server_address) group_left (track) max by (server_address, track) (label_replace(label_replace(` +
	`kube_pod_info{namespace="$namespace", pod=~"$service-(stable|canary)-.+"}, "server_address", "$1", "pod_ip", "(.+)"), "track", "$1", "pod", ".+-(stable|canary)-.+"))`

// byTrack sums a rate over the pods of a version.
func byTrack(metric, labels string, by string) string {
	return fmt.Sprintf("sum by (track%s) (rate(%s%s[$__rate_interval]) %s)", by, metric, labels, tracks)
}

// dashboard compares the two versions of a service as the gate sees them, and
// shows whether the probes can be trusted.
func dashboard() board {
	const latency, responses = "http_server_request_duration_seconds", "http_server_responses_total"
	quantile := func(q string) string {
		return "histogram_quantile(" + q + ", " + byTrack(latency+"_bucket", "", ", le") + ")"
	}
	b := board{
		Title: "Sluice", UID: "sluice", Description: "Stable and canary as the kernel sees them, and the probes themselves. Which pod is which comes from kube-state-metrics.",
		Tags: []string{"sluice"}, Editable: true, Refresh: "10s", SchemaVersion: 39, Time: timeRange{"now-30m", "now"},
		Templating: templating{[]variable{
			{Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus"},
			{Name: "namespace", Label: "Namespace", Type: "query", Query: `label_values(kube_pod_info{pod=~".+-stable-.+"}, namespace)`, Refresh: 2, Datasource: prometheusSource},
			{Name: "service", Label: "Service", Type: "query", Query: `label_values(kube_pod_info{namespace="$namespace", pod=~".+-stable-.+"}, pod)`, Regex: "/(.+)-stable-.+/", Refresh: 2, Datasource: prometheusSource},
		}},
	}
	b.row("Releases",
		chart("Requests", "reqps", "Answered requests.", query{Expr: byTrack(responses, "", ""), LegendFormat: "{{track}}"}),
		chart("Failed requests", "percentunit", "Share of answers with status 5xx.", query{
			Expr: byTrack(responses, `{http_response_status_class="5xx"}`, "") + " / " + byTrack(responses, "", ""), LegendFormat: "{{track}}",
		}),
		chart("Latency", "s", "To the first byte of the answer, the wait in the socket's queue included.",
			query{Expr: quantile("0.5"), LegendFormat: "{{track}} p50"}, query{Expr: quantile("0.99"), LegendFormat: "{{track}} p99"}),
		chart("Requests in flight", "short", "", query{Expr: "sum by (track) (http_server_active_requests " + tracks + ")", LegendFormat: "{{track}}"}),
		chart("Requests without an answer", "reqps", "The connection was closed or the stream was reset.", query{Expr: byTrack("http_server_requests_aborted_total", "", ""), LegendFormat: "{{track}}"}),
		chart("Retransmits", "percentunit", "Share of segments that were sent again.", query{
			Expr: byTrack("sluice_tcp_segments_retransmitted_total", "", "") + " / " + byTrack("sluice_tcp_segments_sent_total", "", ""), LegendFormat: "{{track}}",
		}),
	)
	b.row("Probes",
		chart("Not what was verified", "short", "1 where the kernel holds another program than the one that was verified.", query{Expr: "sluice_probe_mismatch", LegendFormat: "{{node}}"}),
		chart("Coverage", "percentunit", "Measured, of what the probe knows of on the whole node. A TLS connection counts as one that is not.", query{Expr: "sluice_probe_coverage_ratio", LegendFormat: "{{node}}"}),
		chart("Lost", "reqps", "", query{Expr: "rate(sluice_probe_requests_lost_total[$__rate_interval])", LegendFormat: "{{node}} requests"},
			query{Expr: "rate(sluice_probe_connections_unmeasured_total[$__rate_interval])", LegendFormat: "{{node}} connections not readable"},
			query{Expr: "rate(sluice_probe_connections_desynced_total[$__rate_interval])", LegendFormat: "{{node}} connections lost track of"}),
		chart("Cost", "percentunit", "Share of a core, and what it may be.", query{Expr: "sluice_probe_cpu_ratio", LegendFormat: "{{node}}"},
			query{Expr: "max(sluice_probe_cpu_budget_ratio)", LegendFormat: "budget"}),
		chart("Workloads", "short", "Told apart, and those that share one series.", query{Expr: "sluice_probe_workloads", LegendFormat: "{{node}}"},
			query{Expr: "sluice_probe_workloads_overflowed", LegendFormat: "{{node}} overflowed"}),
		chart("Objects", "short", "Nodes by the eBPF object that they run.", query{Expr: "count by (digest) (sluice_probe_object_info)", LegendFormat: "{{digest}}"}),
	)
	return b
}

// row appends a title and panels, three in a line.
func (b *board) row(title string, panels ...panel) {
	const height, width = 8, 8
	y := 0
	if n := len(b.Panels); n > 0 {
		y = b.Panels[n-1].GridPos.Y + height
	}
	head := panel{ID: len(b.Panels) + 1, Type: "row", Title: title, GridPos: gridPos{H: 1, W: 24, Y: y}}
	head.FieldConfig.Overrides = []struct{}{}
	b.Panels = append(b.Panels, head)
	for i, p := range panels {
		p.ID, p.GridPos = len(b.Panels)+1, gridPos{H: height, W: width, X: i % 3 * width, Y: y + 1 + i/3*height}
		b.Panels = append(b.Panels, p)
	}
}

func chart(title, unit, description string, queries ...query) panel {
	p := panel{Type: "timeseries", Title: title, Description: description, Datasource: prometheusSource, Targets: queries}
	p.FieldConfig.Defaults.Unit, p.FieldConfig.Defaults.Min, p.FieldConfig.Overrides = unit, ptr(0), []struct{}{}
	for i := range p.Targets {
		p.Targets[i].RefID = string(rune('A' + i))
	}
	return p
}
