package release

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2025, 3, 1, 12, 0, 0, 123456789, time.UTC)

func rollout(version string) Rollout {
	return Rollout{Name: "shop", Version: version, Started: noon}
}

func promoted() Result {
	return Result{Outcome: Promoted, Verdict: "pass", Ended: noon.Add(time.Minute), Requests: Requests{Stable: 900, Canary: 100}}
}

func open(t *testing.T, path string) *Ledger {
	t.Helper()
	l, err := OpenLedger(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// written returns the bytes of a ledger with two whole rollouts and an unfinished one.
func written(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	for _, v := range []string{"v1.0.0", "v1.1.0"} {
		id, err := l.Start(rollout(v))
		if err == nil {
			err = l.Finish(id, promoted())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Start(rollout("v1.2.0")); err != nil {
		t.Fatal(err)
	}
	l.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTheJSONOfARecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	zone := time.FixedZone("", 3600)
	id, err := l.Start(Rollout{
		Name: "shop", Version: "v1.2.0", Digest: "sha256:" + abc, Image: "sha256:" + abc, Object: "sha256:" + abc,
		Env: "local", Commit: "abc", Committed: noon.Add(-time.Hour), Previous: "v1.1.0", Started: noon.In(zone),
	})
	if err != nil {
		t.Fatal(err)
	}
	at := func(ms int) time.Time { return noon.Add(time.Duration(ms) * time.Millisecond).In(zone) }
	err = l.Finish(id, Result{
		Outcome: RolledBack, Verdict: "fail", Trigger: SLO, Reason: "p50 <doubled>", Ended: at(9000), Requests: Requests{Stable: 900, Canary: 100},
		Timeline: Timeline{Breach: at(1000), Evidence: at(2000), Verdict: at(4000), Traffic: at(4003)},
	})
	if err != nil {
		t.Fatal(err)
	}
	history, err := ReadHistory(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(history, l.Records()); diff != "" {
		t.Errorf("what is on the disk differs from what the writer holds:\n%s", diff)
	}
	history[0].Prev, history[0].Hash = "p", "h"
	got, err := json.Marshal(history)
	if err != nil {
		t.Fatal(err)
	}
	d := "sha256:" + abc
	want := `[{"id":1,"name":"shop","version":"v1.2.0","digest":"` + d + `","image":"` + d + `","object":"` + d + `","env":"local",` +
		`"commit":"abc","committed":"2025-03-01T11:00:00.123456789Z","previous":"v1.1.0","started":"2025-03-01T12:00:00.123456789Z",` +
		`"outcome":"rolled-back","verdict":"fail","trigger":"slo","reason":"p50 \u003cdoubled\u003e","ended":"2025-03-01T12:00:09.123456789Z",` +
		`"timeline":{"breach":"2025-03-01T12:00:01.123456789Z","evidence":"2025-03-01T12:00:02.123456789Z",` +
		`"verdict":"2025-03-01T12:00:04.123456789Z","traffic":"2025-03-01T12:00:04.126456789Z"},` +
		`"requests":{"stable":900,"canary":100},"breach_to_traffic_ms":3003,"prev":"p","hash":"h"}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestBreachToTraffic(t *testing.T) {
	ms := func(n int64) *int64 { return &n }
	for name, tt := range map[string]struct {
		in   Timeline
		want *int64
	}{
		"nothing was breached":             {Timeline{Traffic: noon}, nil},
		"no traffic was moved":             {Timeline{Breach: noon}, nil},
		"rounded to milliseconds":          {Timeline{Breach: noon, Traffic: noon.Add(1500500 * time.Microsecond)}, ms(1501)},
		"the breach came after the moving": {Timeline{Breach: noon.Add(time.Second), Traffic: noon}, ms(0)},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.in.breachToTraffic()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWhatMayNotBeAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	id, err := l.Start(rollout("v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	start := func(change func(*Rollout)) func() error {
		return func() error { r := rollout("v1.1.0"); change(&r); _, err := l.Start(r); return err }
	}
	finish := func(id int, change func(*Result)) func() error {
		return func() error { r := promoted(); change(&r); return l.Finish(id, r) }
	}
	for name, try := range map[string]func() error{
		"a rollout without a name":         start(func(r *Rollout) { r.Name = "" }),
		"a version that is none":           start(func(r *Rollout) { r.Version = "latest" }),
		"a previous version that is none":  start(func(r *Rollout) { r.Previous = "latest" }),
		"no start time":                    start(func(r *Rollout) { r.Started = time.Time{} }),
		"a year that JSON has no word for": start(func(r *Rollout) { r.Started = noon.AddDate(10000, 0, 0) }),
		"an unknown outcome":               finish(id, func(r *Result) { r.Outcome = "fine" }),
		"no outcome":                       finish(id, func(r *Result) { r.Outcome = "" }),
		"an unknown trigger":               finish(id, func(r *Result) { r.Trigger = "mood" }),
		"an unknown verdict":               finish(id, func(r *Result) { r.Verdict = "good" }),
		"no end time":                      finish(id, func(r *Result) { r.Ended = time.Time{} }),
		"the end of what never started":    finish(7, func(*Result) {}),
		"a line of two megabytes":          finish(id, func(r *Result) { r.Reason = strings.Repeat("x", 2<<20) }),
	} {
		t.Run(name, func(t *testing.T) {
			if try() == nil {
				t.Error("was accepted")
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
				t.Error("the file has changed")
			}
		})
	}
	if err := l.Finish(id, promoted()); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(id, promoted()); err == nil {
		t.Error("a second end was accepted")
	}
}

func TestTheNextWriterFindsWhatIsUnfinished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	if err := os.WriteFile(path, written(t), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path)
	left := l.Unfinished()
	if len(left) != 1 || left[0].ID != 3 || left[0].Version != "v1.2.0" {
		t.Fatalf("unfinished: %+v", left)
	}
	if err := l.Finish(left[0].ID, Result{Outcome: RolledBack, Trigger: Crash, Ended: noon}); err != nil {
		t.Fatal(err)
	}
	if len(l.Unfinished()) != 0 || l.Cut() != 0 {
		t.Errorf("still unfinished: %+v; cut %d", l.Unfinished(), l.Cut())
	}
	l.Close()
	if _, err := l.Start(rollout("v9.0.0")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("appending after Close: %v", err)
	}
}

func TestASecondWriterIsRefusedAndReadersAreNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	if _, err := l.Start(rollout("v1.0.0")); err != nil {
		t.Fatal(err)
	}
	_, err := OpenLedger(path)
	if locked, ok := errors.AsType[*LockedError](err); !ok || locked.PID != os.Getpid() || locked.Hint() == "" {
		t.Errorf("second writer: %v", err)
	}
	if h, err := ReadHistory(path); err != nil || len(h) != 1 || h[0].Finished() {
		t.Errorf("reader: %+v, %v", h, err)
	}
	l.Close()
	open(t, path)
}

func TestManyGoroutinesMayAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	l := open(t, path)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id, err := l.Start(rollout(fmt.Sprintf("v1.0.%d", i)))
			if err == nil {
				err = l.Finish(id, promoted())
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 50 { // a reader in between sees a sound ledger at every moment
		if _, err := ReadHistory(path); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if s, err := Verify(path); err != nil || s.Lines != 16 {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestTheFileIsWatchedForOtherHands(t *testing.T) {
	for name, harm := range map[string]func(path string) error{
		"removed":     os.Remove,
		"replaced":    func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600)) },
		"shortened":   func(p string) error { return os.Truncate(p, 10) },
		"appended to": func(p string) error { return os.Truncate(p, 10000) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ledger.jsonl")
			l := open(t, path)
			if _, err := l.Start(rollout("v1.0.0")); err != nil {
				t.Fatal(err)
			}
			if err := harm(path); err != nil {
				t.Fatal(err)
			}
			if err := l.Finish(1, promoted()); err == nil {
				t.Error("was not noticed")
			}
		})
	}
}

func TestNoLedgerIsNotAnEmptyOne(t *testing.T) {
	if _, err := ReadHistory(filepath.Join(t.TempDir(), "ledger.jsonl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := OpenLedger(filepath.Join(t.TempDir(), "no", "ledger.jsonl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
