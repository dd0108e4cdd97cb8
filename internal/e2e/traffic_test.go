package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/load"
)

// TestMain lets the test program be the clients, as e2e itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == clientArg {
		if err := runClient(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// here runs a command on this machine.
func here(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	return cmd.Wait()
}

func TestEveryRequestOfTheClientsCounts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host != "shop.example.com":
			t.Errorf("asked for host %s", r.Host)
		case r.Header.Get("X-Env") == "canary":
			_, _ = io.WriteString(w, `{"version": "v2"}`)
		case r.Header.Get("User-Agent") != "sluice-load":
			_, _ = io.WriteString(w, `{"version": "v1"}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	begin := time.Now()
	tr, err := startTraffic(t.Context(), here, "-url", server.URL+"/work", "-host", "shop.example.com", "-header", "canary", "-rate", "50", "-witness", "20ms")
	if err != nil {
		t.Fatal(err)
	}
	tr.stop()
	with, without := tr.seen("v2", begin, true), tr.seen("v1", begin, false)
	if len(with) == 0 || len(without) <= len(with) {
		t.Errorf("the witness saw v2 %d times and v1 %d times", len(with), len(without))
	}
	c := tr.now()
	if c.Failed != 0 || c.Errors == 0 || c.Sent < c.Errors+uint64(len(with)+len(without)) {
		t.Errorf("counted %+v, the witness alone %d", c, len(with)+len(without))
	}
	if last, ok := tr.lastSeen("v1", begin); !ok || !last.Equal(without[len(without)-1].At) {
		t.Errorf("last seen %v, %v", last, ok)
	}
}

func TestClientsThatCannotStartSayWhy(t *testing.T) {
	_, err := startTraffic(t.Context(), here, "-url", "nonsense")
	if err == nil || !strings.Contains(err.Error(), "URL") {
		t.Errorf("error %v", err)
	}
}

func TestWhatClientsSayIsAddedUp(t *testing.T) {
	tr := &traffic{}
	at := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	tr.count(said{At: at, Second: &load.Stats{Sent: 10, Failed: 1, Classes: [6]uint64{2: 7, 5: 2}, Errors: []load.Failure{{Text: "refused", Count: 1, First: at}}}})
	before := tr.now()
	tr.count(said{At: at, Version: "v1", Status: 200})
	tr.count(said{At: at.Add(time.Second), Version: "v2", Status: 500})
	tr.count(said{At: at.Add(2 * time.Second), Failed: "timeout"})
	want := counted{Sent: 3, Failed: 1, Errors: 1, Reasons: []string{"12:00:02 1 times timeout"}}
	if d := cmp.Diff(want, tr.now().minus(before)); d != "" {
		t.Error(d)
	}
	want = counted{Sent: 13, Failed: 2, Errors: 3, Reasons: []string{"12:00:00 1 times refused", "12:00:02 1 times timeout"}}
	if d := cmp.Diff(want, tr.now()); d != "" {
		t.Error(d)
	}
	if len(tr.seen("v2", at, false)) != 1 || len(tr.seen("v2", at.Add(2*time.Second), false)) != 0 || len(tr.seen("v1", at, true)) != 0 {
		t.Error("the witness remembers something else")
	}
}

func TestPollEndsWithTheAnswerTheErrorOrTheTime(t *testing.T) {
	n := 0
	if err := poll(t.Context(), time.Second, "three", func() (bool, error) { n++; return n == 3, nil }); err != nil || n != 3 {
		t.Errorf("error %v after %d", err, n)
	}
	if err := poll(t.Context(), time.Second, "", func() (bool, error) { return false, io.EOF }); err != io.EOF {
		t.Errorf("error %v", err)
	}
	err := poll(t.Context(), 10*time.Millisecond, "godot", func() (bool, error) { return false, nil })
	if err == nil || !strings.Contains(err.Error(), "godot: not in time") {
		t.Errorf("error %v", err)
	}
}
