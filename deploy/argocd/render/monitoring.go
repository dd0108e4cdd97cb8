package render

import (
	"encoding/json"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Parts of the kinds of the Prometheus operator (monitoring.coreos.com/v1) that
// are used here.
type (
	serviceMonitor struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              monitorSpec `json:"spec"`
	}
	monitorSpec struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []endpoint           `json:"endpoints"`
	}
	endpoint struct {
		Port        string       `json:"port"`
		Path        string       `json:"path"`
		Interval    string       `json:"interval"`
		Relabelings []relabeling `json:"relabelings"`
	}
	relabeling struct {
		SourceLabels []string `json:"sourceLabels"`
		TargetLabel  string   `json:"targetLabel"`
	}
	prometheusRule struct {
		metav1.TypeMeta   `json:",inline"`
		metav1.ObjectMeta `json:"metadata"`
		Spec              ruleSpec `json:"spec"`
	}
	ruleSpec struct {
		Groups []ruleGroup `json:"groups"`
	}
	ruleGroup struct {
		Name  string  `json:"name"`
		Rules []alert `json:"rules"`
	}
	alert struct {
		Alert       string            `json:"alert"`
		Expr        string            `json:"expr"`
		For         string            `json:"for,omitempty"`
		Labels      map[string]string `json:"labels"`
		Annotations map[string]string `json:"annotations"`
	}
)

// missed is what a probe saw and could not measure, as the gate adds it up:
// connections that speak TLS or something else are not the service's.
const missed = `sum by (node) (increase(sluice_probe_requests_lost_total[5m]) + increase(sluice_probe_connections_desynced_total[5m]) + increase(sluice_probe_connections_older_total[5m]))`

const dashboardFile = "sluice.dashboard.json"

// monitoring is for a cluster with the Prometheus operator and Grafana's sidecar
// for dashboards; without them nothing of it is needed.
func monitoring(s *service) (map[string][]byte, error) {
	files, err := write(
		monitorDir, kustomization{ConfigMaps: []generator{{
			Name: "sluice-dashboard", Namespace: s.k.Probe.Namespace, Files: []string{dashboardFile},
			Options: generatorOptions{DisableNameSuffixHash: true, Labels: map[string]string{"grafana_dashboard": "1", "app.kubernetes.io/managed-by": "sluice"}},
		}}},
		file{"monitor.yaml", []doc{{"", s.monitor()}}},
		file{"rules.yaml", []doc{{"Metrics of Kubernetes itself (kube_…) come from kube-state-metrics.", s.rules()}}},
	)
	if err != nil {
		return nil, err
	}
	board, err := json.MarshalIndent(dashboard(), "", "  ")
	files[monitorDir+"/"+dashboardFile] = append(board, '\n')
	return files, err
}

func (s *service) monitor() serviceMonitor {
	return serviceMonitor{
		TypeMeta: kind("monitoring.coreos.com/v1", "ServiceMonitor"), ObjectMeta: s.probeMeta(probeName),
		Spec: monitorSpec{
			Selector: metav1.LabelSelector{MatchLabels: map[string]string{nameLabel: probeName}},
			Endpoints: []endpoint{{
				Port: "http", Path: "/metrics", Interval: "10s",
				Relabelings: []relabeling{{SourceLabels: []string{"__meta_kubernetes_pod_node_name"}, TargetLabel: "node"}},
			}},
		},
	}
}

func (s *service) rules() prometheusRule {
	return prometheusRule{
		TypeMeta: kind("monitoring.coreos.com/v1", "PrometheusRule"), ObjectMeta: s.probeMeta(probeName),
		Spec: ruleSpec{Groups: []ruleGroup{
			{Name: "sluice-probe", Rules: []alert{
				newAlert("SluiceProbeNotReady", `up{job="sluice-probe"} == 0 or time() - sluice_probe_snapshot_time_seconds > 30`, "1m", "warning",
					"The probe of node {{ $labels.node }} does not answer, or has not read its counters for 30 seconds.",
					"A release whose pods run there gets the verdict invalid. Look at the log of its pod."),
				newAlert("SluiceProbeAbsent", `absent(up{job="sluice-probe"})`, "5m", "warning",
					"No probe is scraped.", "Is the DaemonSet sluice-probe there, and does Prometheus take its ServiceMonitor?"),
				newAlert("SluiceProbeMismatch", `sluice_probe_mismatch == 1`, "", "critical",
					"On node {{ $labels.node }} the kernel holds another probe than the one that was verified.",
					"Nothing that it measures can be trusted. Somebody with rights on the node has put something else in its place: the log of its pod says what."),
				newAlert("SluiceProbeLosesRequests", `increase(sluice_probe_requests_lost_total[5m]) > 0`, "", "warning",
					"The probe of node {{ $labels.node }} had no room for {{ $value | humanize }} requests.",
					"Give the daemon more --workloads."),
				newAlert("SluiceProbeCoverage", missed+" / ("+missed+" + sum by (node) (increase(http_server_requests_started_total[5m]))) > 0.1", "1m", "warning",
					"The probe of node {{ $labels.node }} misses {{ $value | humanizePercentage }} of what it should measure.",
					"Beyond 10 % the gate does not trust the node. Connections older than the probe end at the next restart of their clients; HTTP/2 that it loses track of is a bug worth a report."),
				newAlert("SluiceProbeOverBudget", `sluice_probe_cpu_ratio > sluice_probe_cpu_budget_ratio`, "1m", "warning",
					"Measuring takes {{ $value | humanizePercentage }} of a core on node {{ $labels.node }}, more than it may.",
					"The gate does not trust the node meanwhile. Raise --budget if that is what the traffic takes."),
			}},
			{Name: "sluice-releases", Rules: []alert{
				newAlert("SluiceReleaseStopped", `kube_job_failed{condition="true", job_name=~".+-(presync|gate)"} == 1`, "", "warning",
					"A release in namespace {{ $labels.namespace }} was stopped by {{ $labels.job_name }}.",
					"The stable version was not touched. The annotations sluice.dev/verdict and sluice.dev/reason of the Application say why."),
				newAlert("SluiceRollbackFailed", `kube_job_failed{condition="true", job_name=~".+-(postsync|syncfail)"} == 1`, "", "critical",
					"{{ $labels.job_name }} in namespace {{ $labels.namespace }} could not finish.",
					"Traffic, canary or git may not be where they belong: the log of the Job says what is left to do."),
			}},
		}},
	}
}

func newAlert(name, expr, hold, severity, summary, description string) alert {
	return alert{
		Alert: name, Expr: expr, For: hold, Labels: map[string]string{"severity": severity},
		Annotations: map[string]string{"summary": summary, "description": description},
	}
}
