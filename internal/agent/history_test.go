package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

// offer asks for an object, as sluice bpf load does.
func (l *lab) offer(object []byte, how ...func(*wire.SwapRequest)) (wire.SwapResult, *wire.Error) {
	l.t.Helper()
	q := wire.SwapRequest{Object: object, Bundle: l.sign(object), Digest: bpf.DigestOf(object)}
	for _, change := range how {
		change(&q)
	}
	result, err := l.client.SwapAs(l.t.Context(), q)
	var answer *wire.Error
	if err != nil && !errors.As(err, &answer) {
		l.t.Fatal(err)
	}
	return result, answer
}

func force(q *wire.SwapRequest)  { q.Force = true }
func dryRun(q *wire.SwapRequest) { q.DryRun = true }

// running is the object that counts.
func (l *lab) running() bpf.Digest { l.t.Helper(); return l.snapshot().Loaded.Digest }

func TestAnObjectThatWasFoundBadIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"by the daemon itself, which keeps no history": func(c *Config) { c.History = nil },
		"by the daemon itself":                         func(*Config) {},
		"by another node": func(c *Config) {
			dir := t.TempDir()
			c.History = nodeHistory(t, dir, "node-1")
			another := nodeHistory(t, dir, "node-2")
			if _, err := another.Put(t.Context(), other(t), nil); err != nil {
				t.Fatal(err)
			}
			if err := another.MarkBad(t.Context(), bpf.DigestOf(other(t)), "it is slow"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, why := newLab(t, change), "it is slow"
			if name != "by another node" {
				why = "rolled back by hand"
				if _, refused := l.offer(other(t)); refused != nil {
					t.Fatal(refused)
				}
				if _, err := l.client.Rollback(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			for _, how := range [][]func(*wire.SwapRequest){nil, {dryRun}} {
				_, refused := l.offer(other(t), how...)
				says := fmt.Sprintf("the eBPF object %s was found bad: %s", bpf.DigestOf(other(t)), why)
				if refused == nil || refused.Status != http.StatusConflict || refused.Message != says || !strings.Contains(refused.Advice, "--force") {
					t.Errorf("it says %+v, want %q", refused, says)
				}
			}
			if got := l.running(); got != BuiltIn().Digest() {
				t.Errorf("%s runs", got)
			}
			if _, refused := l.offer(other(t), force); refused != nil {
				t.Errorf("by force: %+v", refused)
			}
			if got := l.running(); got != bpf.DigestOf(other(t)) {
				t.Errorf("by force: %s runs", got)
			}
		})
	}
}

func nodeHistory(t *testing.T, dir, node string) *objects.History {
	t.Helper()
	h, err := objects.Dir(dir, node)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestADryRunDoesEverythingButTheSwap(t *testing.T) {
	l := newLab(t, nil)
	l.eventually("the first object to be good", func() bool { return l.entry(BuiltIn().Digest()).Good })
	foreign := mustRead(t, "../../bpf/bind/mover_bpfel.o")
	unsigned := func(q *wire.SwapRequest) { q.Bundle = nil }
	for name, tt := range map[string]struct {
		object []byte
		how    func(*wire.SwapRequest)
		status int // 0: it is taken
	}{
		"a good one":                   {other(t), dryRun, 0},
		"one that is not signed":       {other(t), unsigned, http.StatusForbidden},
		"one that is no probe":         {foreign, dryRun, http.StatusUnprocessableEntity},
		"one that the kernel refuses":  {refused(t), dryRun, http.StatusUnprocessableEntity},
		"one that was meant otherwise": {other(t), func(q *wire.SwapRequest) { q.Digest = BuiltIn().Digest() }, http.StatusForbidden},
	} {
		result, answer := l.offer(tt.object, tt.how, dryRun)
		switch {
		case tt.status == 0 && (answer != nil || result.Digest != bpf.DigestOf(tt.object) || result.Previous != BuiltIn().Digest()):
			t.Errorf("%s: %+v, %+v", name, result, answer)
		case tt.status != 0 && (answer == nil || answer.Status != tt.status):
			t.Errorf("%s: %+v, want status %d", name, answer, tt.status)
		}
	}
	list, err := l.client.Objects(t.Context())
	if s := l.snapshot(); err != nil || len(list.History) != 1 || s.Swaps != 0 || s.Loaded.Digest != BuiltIn().Digest() {
		t.Errorf("it left %d objects in the history, %d swaps: %v", len(list.History), s.Swaps, err)
	}
}

// gauge is the value of a metric.
func (l *lab) gauge(name string) string {
	l.t.Helper()
	found := regexp.MustCompile(`\n` + name + ` (\S+)\n`).FindStringSubmatch(l.metrics())
	if found == nil {
		l.t.Fatalf("no metric %s", name)
	}
	return found[1]
}

// A disk is full: what counts goes on, no object is taken whose good or bad could
// not be recorded, the metrics tell it, and nothing is lost when there is room.
func TestAFullDiskOfTheHistory(t *testing.T) {
	dir := disk(t)
	l := newLab(t, func(c *Config) { c.History, c.Probation = nodeHistory(t, dir, "node-1"), time.Hour })
	const unwritten = "sluice_probe_history_unwritten_events"
	l.eventually("the first events to be written", func() bool { return l.entry(BuiltIn().Digest()).Good && l.gauge(unwritten) == "0" })
	filler := fill(t, dir)
	_, answer := l.offer(other(t))
	if answer == nil || answer.Status != http.StatusServiceUnavailable || !strings.Contains(answer.Message, "no space left on device") || !strings.Contains(answer.Advice, "its disk full") {
		t.Errorf("loading says %+v", answer)
	}
	if got := l.running(); got != BuiltIn().Digest() {
		t.Errorf("%s runs", got)
	}
	if _, answer := l.offer(other(t), force); answer != nil {
		t.Errorf("by force: %+v", answer)
	}
	l.eventually("metrics to tell it", func() bool { return l.gauge(unwritten) != "0" })
	if got := l.get("/readyz"); got != http.StatusOK { // what it counts can be relied on
		t.Errorf("/readyz says %d", got)
	}
	if _, err := l.client.Rollback(t.Context()); err != nil { // the bad word, too, has to wait
		t.Error(err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	l.eventually("the history to have all", func() bool {
		return l.gauge(unwritten) == "0" && l.entry(bpf.DigestOf(other(t))).Bad == "rolled back by hand"
	})
	if got := l.gauge("sluice_probe_history_lost_events_total"); got != "0" {
		t.Errorf("%s events are lost", got)
	}
}

// fill leaves no room on a disk and returns the file that takes it.
func fill(t *testing.T, dir string) (filler string) {
	t.Helper()
	filler = filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, block := range []int{4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, block))
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	return filler
}

// disk is a small one of its own.
func disk(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// What the daemon found bad is no object to go back to, though the history, which
// cannot be written, still says that it is good.
func TestARollbackKnowsWhatTheHistoryDoesNotKnowYet(t *testing.T) {
	dir := disk(t)
	l := newLab(t, func(c *Config) { c.History = nodeHistory(t, dir, "node-1") })
	if _, refused := l.offer(other(t)); refused != nil {
		t.Fatal(refused)
	}
	l.eventually("it to be good", func() bool { return l.entry(bpf.DigestOf(other(t))).Good })
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := l.client.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := l.client.Rollback(t.Context())
	if answer := (*wire.Error)(nil); !errors.As(err, &answer) || answer.Status != http.StatusConflict || !strings.Contains(answer.Message, "was found bad: rolled back by hand") {
		t.Errorf("a second rollback: %v", err)
	}
	if got := l.running(); got != BuiltIn().Digest() {
		t.Errorf("%s runs", got)
	}
}

// TestAMismatchEndsATrial replaces a program while a new object is on trial.
func TestAMismatchEndsATrial(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Probation = time.Hour })
	if _, refused := l.offer(other(t)); refused != nil {
		t.Fatal(refused)
	}
	if err := linkOf(t, l.snapshot().Loaded, "egress").Update(blind(t, ebpf.AttachCGroupInetEgress)); err != nil {
		t.Fatal(err)
	}
	l.eventually("the last good object", func() bool { return l.running() == BuiltIn().Digest() })
	l.eventually("the end of the trial in the history", func() bool {
		return strings.HasPrefix(l.entry(bpf.DigestOf(other(t))).Bad, "hash mismatch while it was on trial: program egress: ")
	})
	l.eventually("the good object to be loaded again", func() bool {
		before, err := l.agent.cfg.History.LoadedHere(t.Context())
		return err == nil && len(before) == 2 && before[0].Digest == BuiltIn().Digest()
	})
	if _, refused := l.offer(other(t)); refused == nil || refused.Status != http.StatusConflict {
		t.Errorf("loading it again says %+v", refused)
	}
}

func TestReadersOfTheHistoryShareAnAnswer(t *testing.T) {
	dir := t.TempDir()
	a, _ := quietAgent(Config{History: nodeHistory(t, dir, "node-1")})
	a.note(storeObject(BuiltIn()))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	a.writeNotes(ended)
	read := func() (int, error) { // who asks may be gone
		list, err := a.history(ended)
		return len(list), err
	}
	if n, err := read(); n != 1 || err != nil {
		t.Fatalf("%d objects: %v", n, err)
	}
	a.known.at = time.Now().Add(time.Hour) // however slow the machine is
	if err := os.WriteFile(filepath.Join(dir, "journal"), []byte("damaged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if n, err := read(); n != 1 || err != nil {
				t.Errorf("it was read again: %d objects, %v", n, err)
			}
		})
	}
	all.Wait()
	a.known.forget()
	if _, err := read(); !errors.As(err, new(*objects.JournalError)) {
		t.Errorf("after a while: %v", err)
	}
}

// restarted runs a daemon of the same configuration once more.
func (l *lab) restarted(change func(*Config)) {
	l.t.Helper()
	cfg := l.agent.cfg
	if err := l.stop(); err != nil {
		l.t.Fatal(err)
	}
	if change != nil {
		change(&cfg)
	}
	l.run(cfg)
}

func TestARestartGoesOnWithTheObjectThatWasLoadedLast(t *testing.T) {
	named := append(bytes.Clone(probe.Object()), 0)
	for name, tt := range map[string]struct {
		before func(l *lab, dir string) // what was done until the restart
		change func(*Config)            // with which flags it comes back
		other  bool                     // the object that was loaded last counts again
		says   string
	}{
		"it was found good": {
			other: true, says: "taking the good object that was loaded last, not the built-in one",
		},
		"it was rolled back": {before: func(l *lab, _ string) {
			if _, err := l.client.Rollback(t.Context()); err != nil {
				t.Fatal(err)
			}
		}},
		"nobody vouches for it any more": {
			change: func(c *Config) { c.Keys = nil }, says: "not going on with an object of the history",
		},
		"another one was named": {
			change: func(c *Config) { c.Object = Object{Bytes: named, Origin: "named.o, signed"} },
			says:   "taking the object of --object, not the good one that was loaded last",
		},
		"its bytes were damaged": {before: func(_ *lab, dir string) {
			path := filepath.Join(dir, "objects", strings.TrimPrefix(string(bpf.DigestOf(other(t))), "sha256:"))
			if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, says: "not going on with an object of the history"},
	} {
		t.Run(name, func(t *testing.T) {
			l, dir := labWithHistory(t)
			if _, refused := l.offer(other(t)); refused != nil {
				t.Fatal(refused)
			}
			l.eventually("it to be good", func() bool { return l.entry(bpf.DigestOf(other(t))).Good })
			if tt.before != nil {
				tt.before(l, dir)
			}
			l.restarted(tt.change)
			want := l.agent.cfg.Object.Digest()
			if tt.other {
				want = bpf.DigestOf(other(t))
			}
			if got := l.running(); got != want || !strings.Contains(l.log.String(), tt.says) {
				t.Errorf("%s runs, want %s; the log says\n%s", got, want, l.log)
			}
		})
	}
}

// A daemon of another version brings another object along: that is what was meant.
func TestABuiltInObjectThatIsNewIsTaken(t *testing.T) {
	signer, err := ours()
	if err != nil {
		t.Fatal(err)
	}
	before, history := other(t), nodeHistory(t, t.TempDir(), "node-1")
	digest, err := history.Put(t.Context(), before, (&lab{t: t, signer: signer}).sign(before))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(history.MarkLoaded(t.Context(), digest), history.MarkGood(t.Context(), digest, "")); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(c *Config) { c.History = history })
	if got := l.running(); got != BuiltIn().Digest() || !strings.Contains(l.log.String(), "taking the built-in object, which is new here") {
		t.Errorf("%s runs; the log says\n%s", got, l.log)
	}
}

// An object of the flags that was rolled back somewhere is taken, as it was asked
// for, but that it counts does not make it good again.
func TestASelfTestDoesNotMakeABadObjectGood(t *testing.T) {
	dir := t.TempDir()
	history := nodeHistory(t, dir, "node-1")
	digest, err := history.Put(t.Context(), probe.Object(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := history.MarkBad(t.Context(), digest, "it is slow"); err != nil {
		t.Fatal(err)
	}
	l := newLab(t, func(c *Config) { c.History = history })
	l.eventually("it to be loaded", func() bool {
		before, err := history.LoadedHere(t.Context())
		return err == nil && len(before) == 1
	})
	l.eventually("all to be written", func() bool { return l.gauge("sluice_probe_history_unwritten_events") == "0" })
	if e := l.entry(digest); e.Good || e.Bad != "it is slow" || !strings.Contains(l.log.String(), "the object of the flags was found bad") {
		t.Errorf("the history says %+v; the log says\n%s", e, l.log)
	}
}

func TestWhatTheHistoryWillNeverTakeHoldsNothingUp(t *testing.T) {
	history := nodeHistory(t, t.TempDir(), "node-1")
	a, text := quietAgent(Config{History: history})
	a.note(markGood(BuiltIn(), "of an object that was never stored"), storeObject(BuiltIn()), markGood(BuiltIn(), ""))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.writeNotes(ctx) }()
	for deadline := time.Now().Add(patience); a.notes.unwritten.Load() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d events wait\n%s", a.notes.unwritten.Load(), text)
		}
	}
	cancel()
	<-done
	if e, err := history.Find(t.Context(), BuiltIn().Digest()); err != nil || !e.Good || a.notes.lost.Load() != 1 {
		t.Errorf("the history has %+v, %v; %d events are lost", e, err, a.notes.lost.Load())
	}
}
