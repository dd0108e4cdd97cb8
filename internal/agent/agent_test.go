package agent

import (
	"errors"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestAnAgentTellsWhatItCounts(t *testing.T) {
	l := newLab(t, nil)
	if got := l.get("/readyz"); got != http.StatusOK {
		t.Errorf("/readyz says %d", got)
	}
	l.request(7)
	l.eventually("seven requests", func() bool { return requests(l.snapshot()) == 7 })
	s := l.snapshot()
	if len(s.Workloads) != 1 || s.Loaded.Digest != BuiltIn().Digest() || s.Mismatch != "" || s.Start.Loaded.IsZero() {
		t.Errorf("the snapshot says %+v", s)
	}
	l.eventually("a cost, which is measured now and then", func() bool { l.request(1); return l.snapshot().Cost.Runs > 0 })
	list, err := l.client.Objects(t.Context())
	if err != nil || list.Loaded.Digest != s.Loaded.Digest {
		t.Errorf("the objects are %+v: %v", list, err)
	}
	if l.get("/v1/nothing") != http.StatusNotFound || l.get("/debug/pprof/") != http.StatusNotFound {
		t.Error("it answers for what it does not serve")
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
	if left := attached(t, l.group); left != 0 {
		t.Errorf("%d programs are left attached", left)
	}
	if _, err := os.Stat(l.socket); err == nil {
		t.Error("the socket is left")
	}
}

// attached counts the programs at a control group.
func attached(t *testing.T, group string) (n int) {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, attach := range []ebpf.AttachType{ebpf.AttachCGroupInetIngress, ebpf.AttachCGroupInetEgress, ebpf.AttachCGroupSockOps} {
		got, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: attach})
		if err != nil {
			t.Fatal(err)
		}
		n += len(got.Programs)
	}
	return n
}

func TestManyReadersCostNoMoreThanTenASecond(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Interval = 10 * time.Second })
	seen := map[time.Time]bool{}
	begin := time.Now()
	for len(seen) < 8 {
		asked := time.Now()
		s := l.snapshot()
		seen[s.At] = true
		if s.At.Before(asked.Add(-freshness)) {
			t.Errorf("a snapshot was %v old", asked.Sub(s.At))
		}
	}
	if took := time.Since(begin); took < 6*freshness {
		t.Errorf("%d snapshots in %v, want one in %v at most", len(seen), took, freshness)
	}
}

func TestWhatWasReplacedIsToldAndPutRight(t *testing.T) {
	for name, attack := range map[string]func(t *testing.T, l *lab, loaded bpf.Loaded){
		"a program is replaced": func(t *testing.T, _ *lab, loaded bpf.Loaded) {
			if err := linkOf(t, loaded, "egress").Update(blind(t, ebpf.AttachCGroupInetEgress)); err != nil {
				t.Fatal(err)
			}
		},
		"a program is detached": func(t *testing.T, _ *lab, loaded bpf.Loaded) {
			if err := linkOf(t, loaded, "connection").Detach(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil)
			l.request(3)
			attack(t, l, l.snapshot().Loaded)
			l.eventually("a mismatch", func() bool { return l.snapshot().Mismatch != "" })
			l.eventually("the repair", func() bool { return strings.Contains(l.snapshot().Mismatch, "repaired after") })
			l.agent.mu.Lock()
			last, count := l.agent.mismatch.last, l.agent.mismatch.count
			l.agent.mu.Unlock()
			t.Logf("repaired %v after detection", last.Over.Sub(last.At))
			if count != 1 {
				t.Errorf("%d mismatches, want one", count)
			}
			if l.get("/readyz") != http.StatusServiceUnavailable {
				t.Error("/readyz knows nothing of the mismatch")
			}
			before := requests(l.snapshot())
			l.request(5)
			l.eventually("five more requests", func() bool { return requests(l.snapshot()) == before+5 })
			if n := len(regexp.MustCompile(`msg="hash mismatch"`).FindAllString(l.log.String(), -1)); n != 1 {
				t.Errorf("%d lines in the log, want one", n)
			}
		})
	}
}

func TestAProgramBesideOursStaysAMismatch(t *testing.T) {
	l := newLab(t, nil)
	beside, err := link.AttachCgroup(link.CgroupOptions{Path: l.group, Attach: ebpf.AttachCGroupInetIngress, Program: blind(t, ebpf.AttachCGroupInetIngress)})
	if err != nil {
		t.Fatal(err)
	}
	l.eventually("a mismatch", func() bool { return strings.Contains(l.snapshot().Mismatch, "list of attached programs") })
	time.Sleep(5 * l.agent.cfg.Interval)
	s := l.snapshot()
	if strings.Contains(s.Mismatch, "repaired") || s.Swaps != 0 || s.Mismatches != 1 {
		t.Errorf("%d mismatches, the last %q, after %d swaps", s.Mismatches, s.Mismatch, s.Swaps)
	}
	l.request(2) // it counts on
	l.eventually("two requests", func() bool { return requests(l.snapshot()) == 2 })
	if err := beside.Close(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the end of it", func() bool { return strings.Contains(l.snapshot().Mismatch, "repaired after") })
}

func TestObjectsThatComeLater(t *testing.T) {
	l := newLab(t, nil)
	good, foreign := other(t), mustRead(t, "../../bpf/bind/mover_bpfel.o")
	for name, tt := range map[string]struct {
		object, bundle []byte
		status         int
	}{
		"not signed":                 {good, nil, http.StatusForbidden},
		"signature of another":       {good, l.sign(foreign), http.StatusForbidden},
		"signed, but no probe":       {foreign, l.sign(foreign), http.StatusUnprocessableEntity},
		"signed, but cut off":        {good[:5000], l.sign(good[:5000]), http.StatusUnprocessableEntity},
		"signed, but empty":          {nil, l.sign(nil), http.StatusUnprocessableEntity},
		"signed, but of another key": {good, strangersBundle(t, good), http.StatusForbidden},
	} {
		_, err := l.client.Swap(t.Context(), tt.object, tt.bundle)
		var answer *wire.Error
		if !errors.As(err, &answer) || answer.Status != tt.status {
			t.Errorf("%s: %v, want status %d", name, err, tt.status)
		}
	}
	if s := l.snapshot(); s.Swaps != 0 || s.Mismatch != "" {
		t.Fatalf("the refusals left %d swaps, mismatch %q", s.Swaps, s.Mismatch)
	}
	l.request(4)
	result, err := l.client.Swap(t.Context(), good, l.sign(good))
	if err != nil {
		t.Fatal(err)
	}
	if result.Digest != bpf.DigestOf(good) || result.Previous != BuiltIn().Digest() || result.Took <= 0 {
		t.Errorf("the swap was %+v", result)
	}
	l.request(4)
	l.eventually("eight requests", func() bool { return requests(l.snapshot()) == 8 })
	l.eventually("the new object to be good", func() bool { return l.entry(bpf.DigestOf(good)).Good })
	if _, err := l.client.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := l.snapshot().Loaded.Digest; got != BuiltIn().Digest() {
		t.Errorf("after a rollback %s runs", got)
	}
	l.eventually("a mark", func() bool { return l.entry(bpf.DigestOf(good)).Bad != "" })
	if _, err := l.client.Rollback(t.Context()); err == nil {
		t.Error("a second rollback went back to the bad one")
	}
}

// entry is what the history has of an object.
func (l *lab) entry(digest bpf.Digest) wire.Object {
	list, err := l.client.Objects(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, o := range list.History {
		if o.Digest == digest {
			return o
		}
	}
	return wire.Object{}
}

func TestAnObjectOfTheHistoryIsVerifiedToo(t *testing.T) {
	var history *objects.History
	l := newLab(t, func(c *Config) { history = c.History })
	forged := other(t)
	digest, err := history.Put(t.Context(), forged, []byte(`{"mediaType":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := history.MarkGood(t.Context(), digest, "says who"); err != nil {
		t.Fatal(err)
	}
	_, err = l.client.Rollback(t.Context())
	var answer *wire.Error
	if !errors.As(err, &answer) || answer.Status != http.StatusForbidden {
		t.Errorf("rolling back to a forged object: %v, want it forbidden", err)
	}
	if got := l.snapshot().Loaded.Digest; got != BuiltIn().Digest() {
		t.Errorf("%s runs", got)
	}
}

func TestWithoutAKeyNoObjectIsTaken(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Keys = nil })
	good := other(t)
	_, err := l.client.Swap(t.Context(), good, l.sign(good))
	if err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("swapping says %v", err)
	}
}

func TestCountersAreTakenOver(t *testing.T) {
	pin := pinFolder(t)
	l := newLab(t, func(c *Config) { c.Pin, c.Keep = pin, true })
	l.request(3)
	l.eventually("three requests", func() bool { return requests(l.snapshot()) == 3 })
	start := l.snapshot().Start
	cfg := l.agent.cfg
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	l.request(4) // while no agent runs
	cfg.Keep = false
	l.run(cfg)
	l.eventually("all requests", func() bool { return requests(l.snapshot()) == 7 })
	if got := l.snapshot().Start; got != start {
		t.Errorf("counting began %v, want %v", got, start)
	}
	if got := len(l.snapshot().Workloads); got != 1 {
		t.Errorf("%d workloads, want the service and not the self-tests", got)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(pin); err == nil {
		t.Error("the folder of pins is left")
	}
}

func mustRead(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// strangersBundle is signed with a key that nobody named.
func strangersBundle(t *testing.T, object []byte) []byte {
	t.Helper()
	signer, err := stranger()
	if err != nil {
		t.Fatal(err)
	}
	return (&lab{t: t, signer: signer}).sign(object)
}
