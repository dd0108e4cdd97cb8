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
	answers []string // of looks after the sync; the last one stays
	before  string
	status  int // of the sync
	broken  int // looks that fail on the way
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
			http.Error(w, `{"message":"another operation is already in progress"}`, s.status)
			return
		}
		s.path = r.URL.String()
		_ = json.NewDecoder(r.Body).Decode(&s.asked)
		_, _ = w.Write([]byte("{}"))
		return
	}
	switch {
	case s.asked == nil:
		_, _ = w.Write([]byte(s.before))
	case s.broken > 0:
		s.broken--
		http.Error(w, "upstream", http.StatusBadGateway)
	default:
		_, _ = w.Write([]byte(s.answers[min(s.looks, len(s.answers)-1)]))
		s.looks++
	}
}

const (
	idle    = `{"status":{"operationState":{"phase":"Succeeded","startedAt":"2026-01-01T00:00:00Z"},"sync":{"status":"Synced"},"health":{"status":"Healthy"}}}`
	waiting = `{"operation":{"sync":{}},"status":{"operationState":{"phase":"Succeeded","startedAt":"2026-01-01T00:00:00Z"}}}`
	running = `{"status":{"operationState":{"phase":"Running","message":"waiting for hook shop-gate","startedAt":"2026-01-02T00:00:00Z"}}}`
	failed  = `{"metadata":{"annotations":{"sluice.dev/verdict":"fail","sluice.dev/reason":"slower"}},
		"status":{"operationState":{"phase":"Failed","message":"hook failed","startedAt":"2026-01-02T00:00:00Z"},"sync":{"status":"OutOfSync"},"health":{"status":"Healthy"}}}`
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
	s := &server{before: idle, answers: []string{idle, waiting, running, running, failed}, broken: 2}
	h := httptest.NewServer(s)
	defer h.Close()
	got, err := client(t, h.URL, " good\n").Sync(t.Context(), Application{"shop", "team"}, "v1.2.0")
	want := Result{Phase: "Failed", Message: "hook failed", Verdict: "fail", Reason: "slower", Sync: "OutOfSync", Health: "Healthy"}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if s.asked["revision"] != "v1.2.0" || s.asked["appNamespace"] != "team" || s.path != "/api/v1/applications/shop/sync?appNamespace=team" {
		t.Errorf("asked %v at %s", s.asked, s.path)
	}
}

func TestASyncThatDoesNotEndIsAnError(t *testing.T) {
	h := httptest.NewServer(&server{before: idle, answers: []string{running}})
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
		"an unknown token":       {&server{before: idle}, "bad", "shop", "argocd account generate-token"},
		"an unknown application": {&server{before: idle}, "good", "other", `applications "other" not found`},
		"no application":         {&server{before: idle}, "good", "", "--app"},
		"no right":               {&server{before: idle, status: http.StatusForbidden}, "good", "shop", "get and sync"},
		"a sync that runs":       {&server{before: idle, status: http.StatusBadRequest}, "good", "shop", "already in progress"},
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
	h := httptest.NewTLSServer(&server{before: idle, answers: []string{failed}})
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
