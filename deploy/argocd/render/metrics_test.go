package render

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

var (
	described = regexp.MustCompile(`fqName: "([^"]+)"`)
	metric    = regexp.MustCompile(`\b(?:http_server|rpc_server|sluice|kube)_[a-z0-9_]+`)
	// others are metrics that do not come from the daemon: kube-state-metrics has them.
	others = []string{"kube_pod_info", "kube_job_failed"}
	suffix = regexp.MustCompile(`_(bucket|count|sum)$`)
)

// exported returns the names of all metrics that a daemon has.
func exported() map[string]bool {
	names := map[string]bool{}
	ch := make(chan *prometheus.Desc)
	go func() {
		export.NewCollector(func() *wire.Status { return nil }, export.Options{}).Describe(ch)
		close(ch)
	}()
	for d := range ch {
		names[described.FindStringSubmatch(d.String())[1]] = true
	}
	return names
}

func TestDashboardAndAlertsAskForWhatIsThere(t *testing.T) {
	there := exported()
	for _, name := range others {
		there[name] = true
	}
	files := rendered(t, "replicas", Options{})
	for _, file := range []string{"monitoring/" + dashboardFile, "monitoring/rules.yaml"} {
		asked := metric.FindAllString(string(files[file]), -1)
		if len(asked) < 5 {
			t.Fatalf("%s asks for %v only", file, asked)
		}
		for _, name := range asked {
			if !there[name] && !there[suffix.ReplaceAllString(name, "")] {
				t.Errorf("%s asks for %s (known: %v)", file, name, slices.Sorted(maps.Keys(there)))
			}
		}
	}
}

// queries returns every expression of the dashboard, with the variables filled in.
func queries(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var b board
	if err := json.Unmarshal(text, &b); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, p := range b.Panels {
		for _, q := range p.Targets {
			found[p.Title+" "+q.RefID] = strings.NewReplacer("$__rate_interval", "1m", "$namespace", "shop", "$service", "shop").Replace(q.Expr)
		}
	}
	return found
}

// rulesFile writes groups of rules as Prometheus reads them.
func rulesFile(t *testing.T, dir, name string, groups any) string {
	t.Helper()
	text, err := yaml.Marshal(map[string]any{"groups": groups})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPrometheusUnderstands lets promtool read every expression and try the alerts.
func TestPrometheusUnderstands(t *testing.T) {
	testenv.Need(t, "promtool")
	files, dir := rendered(t, "replicas", Options{}), t.TempDir()
	var rule prometheusRule
	if err := yaml.Unmarshal(files["monitoring/rules.yaml"], &rule); err != nil {
		t.Fatal(err)
	}
	alerts := rulesFile(t, dir, "alerts.yaml", rule.Spec.Groups)
	var panels []map[string]string
	for name, expr := range queries(t, files["monitoring/"+dashboardFile]) {
		panels = append(panels, map[string]string{"record": "panel:" + strings.ReplaceAll(strings.ToLower(name), " ", "_"), "expr": expr})
	}
	board := rulesFile(t, dir, "panels.yaml", []map[string]any{{"name": "dashboard", "rules": panels}})
	if err := os.WriteFile(filepath.Join(dir, "try.yaml"), []byte(alertTests), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", alerts, board}, {"test", "rules", filepath.Join(dir, "try.yaml")}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// alertTests says when alerts have to come, and when not; and that the dashboard
// tells the versions apart.
const alertTests = `
rule_files: [alerts.yaml, panels.yaml]
evaluation_interval: 10s
tests:
  - interval: 10s
    input_series:
      - {series: 'up{job="sluice-probe", node="a"}', values: '1x60'}
      - {series: 'up{job="sluice-probe", node="b"}', values: '1x5 0x55'}
      - {series: 'sluice_probe_mismatch{node="a"}', values: '0x60'}
      - {series: 'sluice_probe_mismatch{node="b"}', values: '0x30 1x30'}
      - {series: 'sluice_probe_requests_lost_total{node="a"}', values: '0x60'}
      - {series: 'sluice_probe_requests_lost_total{node="b"}', values: '0x30 7x30'}
      - {series: 'sluice_probe_connections_desynced_total{node="a"}', values: '0x60'}
      - {series: 'sluice_probe_connections_desynced_total{node="b"}', values: '0+3x60'}
      - {series: 'sluice_probe_connections_older_total{node="a"}', values: '0+1x60'}
      - {series: 'sluice_probe_connections_older_total{node="b"}', values: '0x60'}
      - {series: 'http_server_requests_started_total{node="a", server_address="10.0.0.1"}', values: '0+50x60'}
      - {series: 'http_server_requests_started_total{node="a", server_address="10.0.0.2"}', values: '0+50x60'}
      - {series: 'http_server_requests_started_total{node="b", server_address="10.0.0.3"}', values: '0+10x60'}
      - {series: 'sluice_probe_cpu_ratio{node="a"}', values: '0.01x60'}
      - {series: 'sluice_probe_cpu_ratio{node="b"}', values: '0.08x60'}
      - {series: 'sluice_probe_cpu_budget_ratio{node="a"}', values: '0.05x60'}
      - {series: 'sluice_probe_cpu_budget_ratio{node="b"}', values: '0.05x60'}
      - {series: 'kube_job_failed{namespace="shop", job_name="shop-gate", condition="true"}', values: '0x30 1x30'}
      - {series: 'kube_job_failed{namespace="shop", job_name="report", condition="true"}', values: '1x60'}
      - {series: 'kube_pod_info{namespace="shop", pod="shop-stable-5d8f-abcde", pod_ip="10.0.0.1"}', values: '1x60'}
      - {series: 'kube_pod_info{namespace="shop", pod="shop-stable-5d8f-fghij", pod_ip="10.0.0.2"}', values: '1x60'}
      - {series: 'kube_pod_info{namespace="shop", pod="shop-canary-77aa-klmno", pod_ip="10.0.0.3"}', values: '1x60'}
      - {series: 'http_server_responses_total{server_address="10.0.0.1", http_response_status_class="2xx"}', values: '0+100x60'}
      - {series: 'http_server_responses_total{server_address="10.0.0.2", http_response_status_class="2xx"}', values: '0+100x60'}
      - {series: 'http_server_responses_total{server_address="10.0.0.3", http_response_status_class="2xx"}', values: '0+90x60'}
      - {series: 'http_server_responses_total{server_address="10.0.0.3", http_response_status_class="5xx"}', values: '0+10x60'}
      - {series: 'http_server_responses_total{server_address="10.0.0.9", http_response_status_class="5xx"}', values: '0+10x60'}
    promql_expr_test:
      - expr: panel:requests_a
        eval_time: 5m
        exp_samples: [{labels: 'panel:requests_a{track="stable"}', value: 20}, {labels: 'panel:requests_a{track="canary"}', value: 10}]
      - expr: panel:failed_requests_a
        eval_time: 5m
        exp_samples: [{labels: 'panel:failed_requests_a{track="canary"}', value: 0.1}]
      - expr: count by (alertname, node, job_name) (ALERTS{alertstate="firing"})
        eval_time: 4m
        exp_samples:
          - {labels: '{alertname="SluiceProbeNotReady", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeOverBudget", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeCoverage", node="b"}', value: 1}
      - expr: count by (alertname, node, job_name) (ALERTS{alertstate="firing"})
        eval_time: 6m
        exp_samples:
          - {labels: '{alertname="SluiceProbeNotReady", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeOverBudget", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeCoverage", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeMismatch", node="b"}', value: 1}
          - {labels: '{alertname="SluiceProbeLosesRequests", node="b"}', value: 1}
          - {labels: '{alertname="SluiceReleaseStopped", job_name="shop-gate"}', value: 1}
`
