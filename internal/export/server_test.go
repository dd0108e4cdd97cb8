package export_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/testenv"
	"github.com/sluice-cd/sluice/internal/wire"
)

// TestARealPrometheusReadsBothForms scrapes the exporter with a Prometheus
// server that takes native histograms and asks it for quantiles.
func TestARealPrometheusReadsBothForms(t *testing.T) {
	testenv.Need(t, "prometheus")
	var s atomic.Pointer[wire.Status]
	s.Store(sample())
	target := httptest.NewServer(promhttp.HandlerFor(registry(t, s.Load, export.Options{}), promhttp.HandlerOpts{EnableOpenMetrics: true}))
	defer target.Close()
	api := startPrometheus(t, target.Listener.Addr().String())

	latency := s.Load().Workloads[web].Latency
	web := `{cgroup_id="7",server_port="8080"}`
	native := eventually(t, api, `histogram_quantile(0.9, http_server_request_duration_native_seconds`+web+`)`)
	if exact := latency.Quantile(0.9).Seconds(); math.Abs(native/exact-1) > 0.022 {
		t.Errorf("p90 of the native histogram is %v s, ours %v s", native, exact)
	}
	classic := eventually(t, api, `histogram_quantile(0.9, http_server_request_duration_seconds_bucket`+web+`)`)
	if classic < 1.0/128 || classic > 1.0/64 {
		t.Errorf("p90 of the classic histogram is %v s, expected the octave up to 1/64 s", classic)
	}
	for query, want := range map[string]float64{
		`histogram_count(http_server_request_duration_native_seconds` + web + `)`:                 1000,
		`http_server_request_duration_seconds_count` + web:                                        1000,
		`http_server_request_duration_seconds_bucket{le="0.015625",cgroup_id="7"}`:                float64(latency.Count() - latency.AtOrAbove(448)),
		`histogram_fraction(0, 0.015625, http_server_request_duration_native_seconds` + web + `)`: 1 - float64(latency.AtOrAbove(448))/1000,
		`http_server_active_requests` + web:                                                       3,
	} {
		if got := eventually(t, api, query); math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %v, want %v", query, got, want)
		}
	}
	traced := api + "/api/v1/query_exemplars?query=http_server_request_duration_seconds_bucket&start=" + seconds(began) + "&end=" + seconds(time.Now())
	if body := get(t, traced); !strings.Contains(string(body), probe.TraceID{1, 2, 3}.String()) {
		t.Errorf("the exemplar did not arrive: %s", body)
	}
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }

// startPrometheus runs a server that scrapes target every second, until the
// test ends.
func startPrometheus(t *testing.T, target string) (api string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("scrape_configs:\n- job_name: probe\n  scrape_interval: 1s\n  static_configs:\n  - targets: [%q]\n", target)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(
		"prometheus", "--config.file="+conf, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr,
		"--enable-feature=native-histograms,exemplar-storage", "--log.level=warn",
	)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("prometheus says:\n%s", text)
		}
		log.Close()
	})
	return "http://" + addr
}

// eventually asks until there is an answer: the server has to start and to
// scrape first.
func eventually(t *testing.T, api, query string) float64 {
	t.Helper()
	var answer struct {
		Data struct {
			Result []struct{ Value [2]any }
		}
	}
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		body := get(t, api+"/api/v1/query?query="+url.QueryEscape(query))
		if json.Unmarshal(body, &answer) != nil || len(answer.Data.Result) != 1 {
			continue
		}
		v, err := strconv.ParseFloat(fmt.Sprint(answer.Data.Result[0].Value[1]), 64)
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		return v
	}
	t.Fatalf("%s has no answer", query)
	return 0
}

// get is nil while the server does not answer.
func get(t *testing.T, address string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return body
}
