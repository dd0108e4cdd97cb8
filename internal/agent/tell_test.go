package agent

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/wire"
)

// fetch asks the agent's socket, as root does, and returns all of the answer.
func (l *lab) fetch(method, path, body string, header http.Header) (status int, kind, text string) {
	l.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", l.socket)
		},
	}}
	req, err := http.NewRequestWithContext(l.t.Context(), method, "http://probe"+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := client.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), string(raw)
}

func (l *lab) metrics() string {
	l.t.Helper()
	status, _, text := l.fetch(http.MethodGet, "/metrics", "", nil)
	if status != http.StatusOK {
		l.t.Fatalf("/metrics says %d: %s", status, text)
	}
	return text
}

func TestMetricsSayWhetherTheyCanBeReliedOn(t *testing.T) {
	l := newLab(t, nil)
	l.request(4)
	l.eventually("four requests", func() bool { return requests(l.snapshot()) == 4 })
	sound := l.metrics()
	for _, line := range []string{"\nsluice_probe_ready 1\n", "\nsluice_probe_mismatches_total 0\n"} {
		if !strings.Contains(sound, line) {
			t.Errorf("%q is missing in\n%s", line, sound)
		}
	}
	beside, err := link.AttachCgroup(link.CgroupOptions{Path: l.group, Attach: ebpf.AttachCGroupInetIngress, Program: blind(t, ebpf.AttachCGroupInetIngress)})
	if err != nil {
		t.Fatal(err)
	}
	defer beside.Close()
	l.eventually("the mismatch in the metrics", func() bool {
		m := l.metrics()
		return strings.Contains(m, "\nsluice_probe_ready 0\n") && !strings.Contains(m, "\nsluice_probe_mismatches_total 0\n")
	})
}

func TestASnapshotInJSONIsTheSame(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Interval, c.Node = time.Hour, "node-7" })
	l.request(3)
	l.eventually("three requests", func() bool { return requests(l.snapshot()) == 3 })
	status, kind, text := l.fetch(http.MethodGet, wire.PathSnapshot, "", http.Header{"Accept": {"application/json"}})
	var got struct {
		Node   string
		Loaded bpf.Loaded
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || status != http.StatusOK || kind != "application/json" {
		t.Fatalf("%d %s %v: %s", status, kind, err, text)
	}
	if got.Node != "node-7" || got.Loaded.Digest != BuiltIn().Digest() {
		t.Errorf("it says %+v", got)
	}
	if _, kind, _ := l.fetch(http.MethodGet, wire.PathSnapshot, "", nil); kind != wire.MediaType {
		t.Errorf("without Accept it is %s", kind)
	}
}

func TestProfilesAreServedToWhoAskedForThem(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Pprof = true })
	if status, _, text := l.fetch(http.MethodGet, "/debug/pprof/goroutine?debug=1", "", nil); status != http.StatusOK || !strings.Contains(text, "(*Agent).serve") {
		t.Errorf("%d: %s", status, text)
	}
}

// collector takes metrics, or refuses them.
func collector(t *testing.T, status int) (url string, got <-chan string) {
	t.Helper()
	paths := make(chan string, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body []byte
		if in, err := gzip.NewReader(r.Body); err == nil {
			body, _ = io.ReadAll(in)
		}
		w.WriteHeader(status)
		select {
		case paths <- r.URL.Path + " " + string(body):
		default:
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, paths
}

func TestMetricsAreSentToACollector(t *testing.T) {
	url, got := collector(t, http.StatusOK)
	l := newLab(t, func(c *Config) { c.OTLP = export.OTLPOptions{Endpoint: url, Interval: 50 * time.Millisecond} })
	select {
	case message := <-got:
		if !strings.HasPrefix(message, "/v1/metrics ") || !strings.Contains(message, "sluice") {
			t.Errorf("the collector got %q", message)
		}
	case <-time.After(patience):
		t.Fatal("the collector got nothing")
	}
	if strings.Contains(l.log.String(), "msg=OTLP") {
		t.Errorf("the log complains:\n%s", l.log)
	}
}

func TestACollectorThatRefusesIsInTheLogAndStopsNothing(t *testing.T) {
	url, got := collector(t, http.StatusForbidden)
	l := newLab(t, func(c *Config) { c.OTLP = export.OTLPOptions{Endpoint: url, Interval: 50 * time.Millisecond} })
	<-got
	l.eventually("a line in the log", func() bool {
		return strings.Contains(l.log.String(), "msg=OTLP") && strings.Contains(l.log.String(), "403")
	})
	if got := l.get("/readyz"); got != http.StatusOK {
		t.Errorf("/readyz says %d", got)
	}
}

// quietAgent measures nothing.
func quietAgent(cfg Config) (*Agent, *safeBuffer) {
	text := &safeBuffer{}
	cfg.Log = slog.New(slog.NewTextHandler(text, nil))
	return newAgent(cfg), text
}

func TestReadySaysWhyNot(t *testing.T) {
	broken := "reading the probe: no"
	for name, tt := range map[string]struct {
		change func(*Agent)
		says   string // "": it is ready
	}{
		"all is well":                {func(*Agent) {}, ""},
		"the self-test has not come": {func(a *Agent) { a.tested = false }, "the self-test has not passed"},
		"the last look failed":       {func(a *Agent) { a.broken.Store(&broken) }, broken},
		"nobody has looked yet":      {func(a *Agent) { a.latest.Store(nil) }, "the last snapshot is old"},
		"the last look is long ago":  {func(a *Agent) { a.latest.Store(newReading(statusAt(time.Now().Add(-time.Minute)))) }, "the last snapshot is old"},
		"something was replaced": {func(a *Agent) {
			s := statusAt(time.Now())
			s.Mismatch = "program egress"
			a.latest.Store(newReading(s))
		}, "hash mismatch: program egress"},
	} {
		a, _ := quietAgent(Config{})
		a.tested = true
		a.latest.Store(newReading(statusAt(time.Now())))
		tt.change(a)
		answer := httptest.NewRecorder()
		a.handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		want := http.StatusServiceUnavailable
		if tt.says == "" {
			want, tt.says = http.StatusOK, "ok"
		}
		if answer.Code != want || !strings.Contains(answer.Body.String(), tt.says) {
			t.Errorf("%s: %d %s, want %d %q", name, answer.Code, answer.Body, want, tt.says)
		}
	}
}

func statusAt(at time.Time) wire.Status {
	var s wire.Status
	s.At = at
	return s
}

// A probe that cannot be read any more tells nothing, rather than what it last
// counted.
func TestAProbeThatCannotBeReadTellsNothing(t *testing.T) {
	l := newLab(t, nil)
	cfg := l.agent.cfg
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	a, text := quietAgent(cfg)
	if err := a.load(); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Read(0); err != nil {
		t.Fatal(err)
	}
	if err := a.probe.Close(); err != nil {
		t.Fatal(err)
	}
	a.latest.Store(newReading(statusAt(time.Now().Add(-time.Hour))))
	handler := a.handler()
	for _, path := range []string{wire.PathSnapshot, "/metrics", "/readyz"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusServiceUnavailable || strings.Contains(answer.Body.String(), "sluice_probe_ready") {
			t.Errorf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
	if n := strings.Count(text.String(), "no snapshot"); n != 1 {
		t.Errorf("%d lines in the log, want one:\n%s", n, text)
	}
}
