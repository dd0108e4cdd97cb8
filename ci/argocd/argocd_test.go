package argocd

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// server answers as Argo CD does: a sync is asked for, waits in the
// application's operation, runs, and ends.
type server struct {
	mu      sync.Mutex
	looks   int
	asked   map[string]any
	path    string
	before  []string // answers to looks before the sync was asked for; the last one stays
	answers []string // and after that
	head    string   // commit that the application asks for; empty: nobody knows
	status  int      // of the sync
	faster  int      // syncs that somebody else was faster with
	broken  int      // looks that fail on the way
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer good" {
		http.Error(w, `{"message":"invalid session"}`, http.StatusUnauthorized)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/api/v1/applications/shop") {
		http.Error(w, `{"message":"applications \"other\" not found"}`, http.StatusNotFound)
		return
	}
	if r.Method == http.MethodPost {
		if s.status != 0 {
			http.Error(w, `{"message":"permission denied"}`, s.status)
			return
		}
		if s.faster--; s.faster >= 0 {
			http.Error(w, `{"message":"error setting app operation: another operation is already in progress"}`, http.StatusBadRequest)
			return
		}
		s.path, s.looks = r.URL.String(), 0
		_ = json.NewDecoder(r.Body).Decode(&s.asked)
		_, _ = w.Write([]byte("{}"))
		return
	}
	switch {
	case r.URL.Query().Get("refresh") != "" && s.head == "":
		http.Error(w, `{"message":"error refreshing the app"}`, http.StatusInternalServerError)
	case r.URL.Query().Get("refresh") != "":
		_, _ = w.Write([]byte(`{"status":{"sync":{"revision":"` + s.head + `"}}}`))
	case s.asked == nil:
		_, _ = w.Write([]byte(s.before[min(s.looks, len(s.before)-1)]))
		s.looks++
	case s.broken > 0:
		s.broken--
		http.Error(w, "upstream", http.StatusBadGateway)
	default:
		_, _ = w.Write([]byte(s.answers[min(s.looks, len(s.answers)-1)]))
		s.looks++
	}
}

const (
	idle    = `{"spec":{"syncPolicy":{"automated":{"prune":true}}},"status":{"operationState":{"phase":"Succeeded","startedAt":"2026-01-01T00:00:00Z"},"sync":{"status":"Synced"},"health":{"status":"Healthy"}}}`
	waiting = `{"operation":{"sync":{"revision":"v1.2.0"}},"status":{"operationState":{"phase":"Succeeded","startedAt":"2026-01-01T00:00:00Z"}}}`
	running = `{"operation":{"sync":{"revision":"v1.2.0"}},"status":{"operationState":{"phase":"Running","message":"waiting for hook shop-gate","startedAt":"2026-01-02T00:00:00Z"}}}`
	other   = `{"operation":{"sync":{"revision":"v1.1.0"}},"status":{"operationState":{"phase":"Running","message":"of somebody else","startedAt":"2026-01-01T12:00:00Z"}}}`
	over    = `{"status":{"operationState":{"phase":"Failed","message":"of somebody else","startedAt":"2026-01-01T12:00:00Z"}}}`
	after   = `{"status":{"operationState":{"phase":"Succeeded","startedAt":"2026-01-03T00:00:00Z"}}}`
	failed  = `{"metadata":{"annotations":{"sluice.dev/verdict":"fail","sluice.dev/reason":"slower","sluice.dev/release":"1.2.0"}},
		"status":{"operationState":{"phase":"Failed","message":"hook failed","startedAt":"2026-01-02T00:00:00Z","syncResult":{"revision":"abc"}},
		"conditions":[{"type":"SluiceVerdict","lastTransitionTime":"2026-01-02T00:00:09Z"}],"sync":{"status":"OutOfSync"},"health":{"status":"Healthy"}}}`
)

func client(t *testing.T, url, token string) *Client {
	t.Helper()
	c, err := New(Options{Server: url, Token: token, Every: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestASyncIsWaitedFor(t *testing.T) {
	s := &server{before: []string{idle}, answers: []string{idle, waiting, running, running, failed}, broken: 2}
	h := httptest.NewServer(s)
	defer h.Close()
	got, err := client(t, h.URL, " good\n").Sync(t.Context(), Application{"shop", "team"}, "v1.2.0")
	want := ended
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if s.asked["revision"] != "v1.2.0" || s.asked["appNamespace"] != "team" || s.asked["prune"] != true || s.path != "/api/v1/applications/shop/sync?appNamespace=team" {
		t.Errorf("asked %v at %s", s.asked, s.path)
	}
}

// ended is what failed says.
var ended = Result{
	Phase: "Failed", Message: "hook failed", Revision: "abc", Verdict: "fail", Reason: "slower", Release: "1.2.0", Sync: "OutOfSync", Health: "Healthy",
}

func TestASyncThatIsUnderWay(t *testing.T) {
	for name, tt := range map[string]struct {
		s     *server
		asked bool
	}{
		"is joined if it is of the same revision":         {&server{before: []string{running, running, failed}}, false},
		"is joined before it was started":                 {&server{before: []string{waiting, idle, running, failed}}, false},
		"is waited for if it is of another":               {&server{before: []string{other, other, over}, answers: []string{over, running, failed}}, true},
		"is joined if somebody was faster with the same":  {&server{before: []string{idle, running, failed}, faster: 1}, false},
		"is waited for if somebody was faster":            {&server{before: []string{idle, other, over}, answers: []string{over, failed}, faster: 1}, true},
		"is asked for again if nothing is seen of others": {&server{before: []string{idle}, answers: []string{running, failed}, faster: 3}, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(tt.s)
			defer h.Close()
			got, err := client(t, h.URL, "good").Sync(t.Context(), Application{Name: "shop"}, "v1.2.0")
			if err != nil || got != ended || (tt.s.asked != nil) != tt.asked {
				t.Errorf("got %+v, %v, asked for %v", got, err, tt.s.asked)
			}
		})
	}
}

// TestTheVerdictIsOnWhatWasPushed: a sync of an earlier commit is not joined by who
// names no revision.
func TestTheVerdictIsOnWhatWasPushed(t *testing.T) {
	for name, tt := range map[string]struct {
		head  string
		asked bool
	}{
		"of the same commit": {"v1.2.0", false}, "of another": {"v1.3.0", true}, "nobody knows of which": {"", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := &server{before: []string{running, running, failed}, answers: []string{after}, head: tt.head}
			h := httptest.NewServer(s)
			defer h.Close()
			got, err := client(t, h.URL, "good").Sync(t.Context(), Application{"shop", "team"}, "")
			if err != nil || (s.asked != nil) != tt.asked || (got.Phase == "Succeeded") != tt.asked {
				t.Errorf("got %+v, %v, asked for %v", got, err, s.asked)
			}
		})
	}
}

func TestASyncThatDoesNotEndIsAnError(t *testing.T) {
	h := httptest.NewServer(&server{before: []string{idle}, answers: []string{running}})
	defer h.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client(t, h.URL, "good").Sync(ctx, Application{Name: "shop"}, "")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "waiting for hook shop-gate") {
		t.Errorf("got %v", err)
	}
}

func TestWhatArgoCDRefusesIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		s          *server
		token, app string
		want       string
	}{
		"an unknown token":       {&server{before: []string{idle}}, "bad", "shop", "argocd account generate-token"},
		"an unknown application": {&server{before: []string{idle}}, "good", "other", `applications "other" not found`},
		"no application":         {&server{before: []string{idle}}, "good", "", "--app"},
		"no right":               {&server{before: []string{idle}, status: http.StatusForbidden}, "good", "shop", "get and sync"},
	} {
		t.Run(name, func(t *testing.T) {
			h := httptest.NewServer(tt.s)
			defer h.Close()
			_, err := client(t, h.URL, tt.token).Sync(t.Context(), Application{Name: tt.app}, "")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestOptionsThatCannotWorkSayWhatWould(t *testing.T) {
	for name, tt := range map[string]struct {
		o    Options
		want string
	}{
		"no scheme": {Options{Server: "argocd.example.com", Token: "x"}, "https://argocd.example.com"},
		"no token":  {Options{Server: "https://argocd.example.com", Token: "\n"}, "--token=env:ARGOCD_AUTH_TOKEN"},
		"no PEM":    {Options{Server: "https://argocd.example.com", Token: "x", CA: "x"}, "PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to say %q", err, tt.want)
			}
		})
	}
}

func TestAnotherWayToAServerWithItsOwnAuthority(t *testing.T) {
	h := httptest.NewTLSServer(&server{before: []string{idle}, answers: []string{failed}})
	defer h.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.Certificate().Raw})
	c, err := New(Options{
		Server: "https://example.com", Token: "good", CA: string(ca),
		Dial: h.Listener.Addr().String(), Every: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Sync(t.Context(), Application{Name: "shop"}, ""); err != nil || got.Phase != "Failed" {
		t.Errorf("got %+v, %v", got, err)
	}
}
