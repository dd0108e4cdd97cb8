package hook

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"

	"github.com/sluice-cd/sluice/internal/release"
)

// read is an Application as the API server has it.
func read(t *testing.T, status string) application {
	t.Helper()
	if status == "" {
		return application{}
	}
	var app v1alpha1.Application
	if err := json.Unmarshal([]byte(`{"status":`+status+`}`), &app); err != nil {
		t.Fatal(err)
	}
	return application{&app}
}

func TestWhatASyncSaysOfItsRevisions(t *testing.T) {
	for name, tt := range map[string]struct {
		status   string
		revision string
		good     string
		says     string
		running  bool
		began    string
	}{
		"an Application that could not be read": {says: "Argo CD does not say why"},
		"no sync yet":                           {status: `{}`, says: "Argo CD does not say why"},
		"a sync that has just been asked for": {
			status:   `{"operationState":{"phase":"Running","startedAt":"2026-01-02T03:04:05Z","operation":{"sync":{"revision":"b"}}}}`,
			revision: "b", says: "Argo CD does not say why", running: true, began: "2026-01-02T03:04:05Z",
		},
		"an operation that is no sync": {
			status: `{"operationState":{"phase":"Running","startedAt":"2026-01-02T03:04:05Z","operation":{}}}`,
			says:   "Argo CD does not say why", running: true, began: "2026-01-02T03:04:05Z",
		},
		"one that failed": {
			status: `{"history":[{"id":1,"revision":"a","deployedAt":"2026-01-01T00:00:00Z"}],
				"operationState":{"phase":"Failed","startedAt":"2026-01-02T03:04:05Z","message":"one\nor two","operation":{"sync":{"revision":"main"}},"syncResult":{"revision":"b"}}}`,
			revision: "b", good: "a", says: "one or two", began: "2026-01-02T03:04:05Z",
		},
		"one of what was synced before": {
			status: `{"history":[{"id":1,"revision":"a","deployedAt":"2026-01-01T00:00:00Z"},{"id":2,"revision":"b","deployedAt":"2026-01-01T01:00:00Z"}],
				"operationState":{"phase":"Succeeded","startedAt":"2026-01-02T03:04:05Z","message":"done","operation":{},"syncResult":{"revision":"b"}}}`,
			revision: "b", good: "a", says: "done", began: "2026-01-02T03:04:05Z",
		},
		"several sources, of which the first counts": {
			status: `{"history":[{"id":1,"revisions":["a","x"],"deployedAt":"2026-01-01T00:00:00Z"}],
				"operationState":{"phase":"Failed","startedAt":"2026-01-02T03:04:05Z","message":"no","operation":{},"syncResult":{"revisions":["b","y"]}}}`,
			revision: "b", good: "a", says: "no", began: "2026-01-02T03:04:05Z",
		},
		"a history that names no revision": {
			status: `{"history":[{"id":1,"deployedAt":"2026-01-01T00:00:00Z"}]}`, says: "Argo CD does not say why",
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := read(t, tt.status)
			if got := a.revision(); got != tt.revision {
				t.Errorf("it is of %q, want %q", got, tt.revision)
			}
			if got := a.good(); got != tt.good {
				t.Errorf("before it there was %q, want %q", got, tt.good)
			}
			if got := a.message(); got != tt.says {
				t.Errorf("it says %q, want %q", got, tt.says)
			}
			if got := a.operation(); got != tt.began || a.running() != tt.running {
				t.Errorf("it began %q, running %v", got, a.running())
			}
		})
	}
}

func TestWhichSyncPromotedARelease(t *testing.T) {
	at := func(clock string) time.Time {
		v, err := time.Parse(time.RFC3339, "2026-01-02T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const history = `{"history":[
		{"id":1,"revision":"a","deployedAt":"2026-01-02T01:00:00Z"},
		{"id":2,"revisions":["b","x"],"deployedAt":"2026-01-02T02:00:00Z"},
		{"id":3,"revision":"c","deployedAt":"2026-01-02T03:00:00Z"}]}`
	for name, tt := range map[string]struct {
		status         string
		started, ended string
		want           string
	}{
		"the first that ended after the books were closed":         {history, "00:30:00", "00:59:59.5", "a"},
		"one with several sources":                                 {history, "01:30:00", "01:59:59", "b"},
		"the last one since it began, where they were closed late": {history, "01:30:00", "09:00:00", "c"},
		"none, where the history is shorter":                       {history, "05:00:00", "05:01:00", ""},
		"none, of an Application that could not be read":           {"", "00:30:00", "00:59:00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := release.Record{Rollout: release.Rollout{Started: at(tt.started)}, Result: release.Result{Ended: at(tt.ended)}}
			if got := read(t, tt.status).syncedAt(r); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
