package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/argocd/drift"
	"github.com/sluice-cd/sluice/deploy/argocd/hook"
)

// agreed is a view without any difference, at a time.
func agreed(at time.Time) drift.View {
	return drift.View{At: at, Service: "shop", Namespace: "shop", App: "argocd/shop", Stable: &drift.Deployment{}, Canary: &drift.Deployment{}}
}

func TestDriftOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*drift.View)
		code   int
		says   string
	}{
		"all agree":    {func(*drift.View) {}, 0, "no drift"},
		"a difference": {func(v *drift.View) { v.Canary.Replicas = 1 }, 1, "drift    live    deployment shop-canary replicas: want 0, got 1"},
		"missing evidence": {func(v *drift.View) {
			v.Missing = []drift.Missing{{View: drift.InGit, Where: "repository", Why: "gone"}}
		}, 4, "unknown  git     repository"},
		"differences weigh more": {func(v *drift.View) { v.Canary.Replicas = 1; v.Missing = []drift.Missing{{View: drift.InGit}} }, 1, "1 difference, 1 not known"},
	} {
		t.Run(name, func(t *testing.T) {
			read := func(context.Context) drift.View {
				v := agreed(time.Now())
				v.Ledger = &drift.Ledger{Serves: &drift.Release{}}
				tt.change(&v)
				return v
			}
			var text, raw bytes.Buffer
			err := lookOnce(t.Context(), read, false, &text)
			if got := exitStatus(err); got != tt.code || !strings.Contains(text.String(), tt.says) {
				t.Errorf("exit status %d, said %s", got, text.String())
			}
			if err := lookOnce(t.Context(), read, true, &raw); exitStatus(err) != tt.code {
				t.Errorf("exit status %d as JSON", exitStatus(err))
			}
			var report drift.Report
			if err := json.Unmarshal(raw.Bytes(), &report); err != nil || report.Service != "shop" || report.Differences == nil {
				t.Errorf("%v in %s", err, raw.String())
			}
		})
	}
}

func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	return hook.ExitCode(context.Background(), err)
}

func TestAnInterruptedLookSaysNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	err := lookOnce(ctx, func(context.Context) drift.View { return agreed(time.Now()) }, false, &out)
	if !errors.Is(err, context.Canceled) || out.Len() > 0 {
		t.Errorf("got %v, said %s", err, out.String())
	}
}

func TestDriftWatchEndsWithASummary(t *testing.T) {
	for name, tt := range map[string]struct {
		asJSON bool
		last   int // replicas of the canary at the end
		code   int
		lines  []string
	}{
		"mended":        {false, 0, 0, []string{"drift    live    deployment shop-canary replicas", "mended   live deployment shop-canary replicas after 2s (at most 4s)", "1 difference, 1 mended (median 2s, longest 2s)"}},
		"mended, JSON":  {true, 0, 0, []string{`"mended":false`, `"took_nanos":2000000000`, `"longest_nanos":2000000000`}},
		"open, at last": {false, 1, 1, []string{"drift    live    deployment shop-canary replicas", "1 difference, 0 mended; 1 still open"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			at, looks := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), 0
			read := func(context.Context) drift.View {
				v := agreed(at.Add(time.Duration(looks) * 2 * time.Second))
				v.Ledger = &drift.Ledger{Serves: &drift.Release{}}
				if looks++; looks > 3 {
					cancel()
					return v
				}
				v.Canary.Replicas = []int{0, 1, tt.last}[looks-1]
				return v
			}
			var out bytes.Buffer
			err := watchDrift(ctx, read, "shop", time.Millisecond, tt.asJSON, &out)
			if got := exitStatus(err); got != tt.code {
				t.Errorf("exit status %d: %v", got, err)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if len(lines) != len(tt.lines) {
				t.Fatalf("said\n%s", out.String())
			}
			for i, want := range tt.lines {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %q, want %q", lines[i], want)
				}
			}
		})
	}
}

func TestWrongFlagsOfDrift(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no configuration": {[]string{"drift", "-f", filepath.Join(t.TempDir(), "none.yaml")}, "none.yaml"},
		"an output":        {[]string{"drift", "-o", "yaml"}, "known: text, json"},
		"an interval":      {[]string{"drift", "--interval", "1ms"}, "less than 1s"},
		"an argument":      {[]string{"drift", "shop"}, "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			var said strings.Builder
			if code := run(tt.args, io.Discard, &said); code != 2 || !strings.Contains(said.String(), tt.want) {
				t.Errorf("exit status %d, said %q", code, said.String())
			}
		})
	}
}
