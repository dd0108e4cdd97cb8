package actions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// requestJob is a job about pull request 7, at a GitHub that is this handler.
func requestJob(t *testing.T, api http.HandlerFunc, change map[string]string) *Job {
	t.Helper()
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	env := map[string]string{
		"GITHUB_ACTIONS": "true", "GITHUB_API_URL": server.URL, "GITHUB_REPOSITORY": "acme/shop",
		"GITHUB_REF": "refs/pull/7/merge", "GITHUB_TOKEN": "t0ken",
	}
	for k, v := range change {
		env[k] = v
	}
	return New(func(name string) string { return env[name] }, io.Discard)
}

func TestOneSubjectIsOneComment(t *testing.T) {
	var said []map[string]any
	for i := range 100 { // other people's fill the first page
		said = append(said, map[string]any{"id": i + 1, "body": "nice <!-- sluice: sbom -->"})
	}
	j := requestJob(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t0ken" {
			t.Errorf("%s %s without the token", r.Method, r.URL)
		}
		var comment map[string]any
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/repos/acme/shop/issues/7/comments":
			page := said[:min(len(said), 100)]
			if r.URL.Query().Get("page") != "1" {
				page = said[100:]
			}
			_ = json.NewEncoder(w).Encode(page)
		case r.Method == http.MethodPost && r.URL.Path == "/repos/acme/shop/issues/7/comments":
			_ = json.NewDecoder(r.Body).Decode(&comment)
			comment["id"] = len(said) + 1
			said = append(said, comment)
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodPatch && r.URL.Path == fmt.Sprintf("/repos/acme/shop/issues/comments/%d", len(said)):
			_ = json.NewDecoder(r.Body).Decode(&comment)
			said[len(said)-1]["body"] = comment["body"]
		default:
			t.Errorf("%s %s", r.Method, r.URL)
		}
	}, nil)
	for _, text := range []string{"first", "second", strings.Repeat("ä", 60000)} {
		if err := j.Comment(t.Context(), "sbom", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	last, _ := said[len(said)-1]["body"].(string)
	if len(said) != 101 || !strings.HasPrefix(last, "<!-- sluice: sbom -->\nää") || !strings.HasSuffix(last, "has the rest\n") || len(last) > 65536 {
		t.Errorf("%d comments, the last has %d bytes and ends with %q", len(said), len(last), last[max(0, len(last)-30):])
	}
}

func TestWhoMayNotCommentIsToldSo(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		change map[string]string
		denied bool
		text   string
	}{
		"the token of a fork":      {403, nil, true, "GitHub refuses (403)"},
		"no token":                 {200, map[string]string{"GITHUB_TOKEN": ""}, true, "GitHub refuses (401)"},
		"a server that is ill":     {502, nil, false, "GitHub answers 502"},
		"an answer that is none":   {200, nil, false, "reading the answer"},
		"nobody there":             {200, map[string]string{"GITHUB_API_URL": "http://127.0.0.1:1"}, false, "refused"},
		"no pull request at all":   {500, map[string]string{"GITHUB_REF": "refs/heads/main"}, false, ""},
		"an address that is wrong": {200, map[string]string{"GITHUB_API_URL": "\x00"}, false, "commenting"},
	} {
		t.Run(name, func(t *testing.T) {
			j := requestJob(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, "<html>")
			}, tt.change)
			err := j.Comment(context.Background(), "sbom", []byte("x"))
			var denied *DeniedError
			if errors.As(err, &denied) != tt.denied || (err == nil) != (tt.text == "") || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), "t0ken") {
				t.Error("the token is in the message")
			}
		})
	}
	if err := (*Job)(nil).Comment(t.Context(), "sbom", nil); err != nil {
		t.Errorf("outside of a workflow: %v", err)
	}
}
