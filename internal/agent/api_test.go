package agent

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/objects"
	"github.com/sluice-cd/sluice/internal/wire"
)

func TestRequestsForAnotherObjectThatAreRefused(t *testing.T) {
	l := newLab(t, nil)
	good := other(t)
	ask := func(digest bpf.Digest) string {
		body, err := json.Marshal(wire.SwapRequest{Object: good, Bundle: l.sign(good), Digest: digest})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for name, tt := range map[string]struct {
		body   string
		status int
		says   string
	}{
		"what is sent is no JSON":               {"object=AAAA", http.StatusBadRequest, `want {\"object\": base64`},
		"a field is misspelt":                   {`{"objct": "AAAA"}`, http.StatusBadRequest, "objct"},
		"nothing is sent":                       {"", http.StatusBadRequest, "EOF"},
		"another object arrived than was meant": {ask(BuiltIn().Digest()), http.StatusForbidden, string(bpf.DigestOf(good))},
	} {
		status, _, text := l.fetch(http.MethodPost, wire.PathObjects, tt.body, nil)
		if status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: %d %s, want %d %q", name, status, text, tt.status, tt.says)
		}
	}
	if s := l.snapshot(); s.Swaps != 0 {
		t.Errorf("the refusals left %d swaps", s.Swaps)
	}
}

// refused is the probe with a first instruction that the kernel does not allow: it
// reads behind the stack.
func refused(t *testing.T) []byte {
	t.Helper()
	object := probe.Object()
	file, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range file.Sections {
		if section.Type == elf.SHT_PROGBITS && strings.HasPrefix(section.Name, "cgroup_skb/") {
			binary.LittleEndian.PutUint64(object[section.Offset:], 0x0100a079) // r0 = *(u64 *)(r10 + 256)
			return object
		}
	}
	t.Fatal("the probe has no program for packets")
	return nil
}

func TestAnObjectThatTheKernelRefusesChangesNothing(t *testing.T) {
	l := newLab(t, nil)
	bad := refused(t)
	_, err := l.client.Swap(t.Context(), bad, l.sign(bad))
	var answer *wire.Error
	if !errors.As(err, &answer) || answer.Status != http.StatusUnprocessableEntity {
		t.Errorf("swapping says %v", err)
	}
	l.request(3)
	l.eventually("three requests", func() bool { return requests(l.snapshot()) == 3 })
	if s := l.snapshot(); s.Loaded.Digest != BuiltIn().Digest() || s.Swaps != 0 || s.Mismatch != "" {
		t.Errorf("the snapshot says %+v", s)
	}
}

// labWithHistory keeps the history of objects in a folder that the test knows.
func labWithHistory(t *testing.T) (l *lab, dir string) {
	t.Helper()
	dir = t.TempDir()
	history, err := objects.Dir(dir, "node-1")
	if err != nil {
		t.Fatal(err)
	}
	return newLab(t, func(c *Config) { c.History = history }), dir
}

func TestADamagedHistoryIsToldAndMeasuringGoesOn(t *testing.T) {
	l, dir := labWithHistory(t)
	journal := filepath.Join(dir, "journal")
	l.eventually("the first object to be good", func() bool { return l.entry(BuiltIn().Digest()).Good })
	if err := os.WriteFile(journal, []byte("not a line of a journal\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.eventually("the list to tell it", func() bool {
		status, _, text := l.fetch(http.MethodGet, wire.PathObjects, "", nil)
		return status == http.StatusBadGateway && strings.Contains(text, "journal, line 1")
	})
	if status, _, text := l.fetch(http.MethodPost, wire.PathRollback, "", nil); status != http.StatusInternalServerError || !strings.Contains(text, "journal, line 1") {
		t.Errorf("rolling back says %d: %s", status, text)
	}
	if err := os.Remove(journal); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(journal, 0o700); err != nil { // nothing can be written any more
		t.Fatal(err)
	}
	good := other(t)
	_, err := l.client.Swap(t.Context(), good, l.sign(good))
	if answer := (*wire.Error)(nil); !errors.As(err, &answer) || answer.Status != http.StatusServiceUnavailable || !strings.Contains(answer.Hint(), "--force") {
		t.Errorf("swapping: %v", err)
	}
	if _, err := l.client.SwapAs(t.Context(), wire.SwapRequest{Object: good, Bundle: l.sign(good), Digest: bpf.DigestOf(good), Force: true}); err != nil {
		t.Errorf("swapping by force: %v", err)
	}
	l.eventually("a line in the log", func() bool { return strings.Contains(l.log.String(), "writing the history of objects") })
	if s := l.snapshot(); s.Loaded.Digest != bpf.DigestOf(good) {
		t.Errorf("%s runs", s.Loaded.Digest)
	}
}

func TestRollingBackWithoutAHistory(t *testing.T) {
	l := newLab(t, func(c *Config) { c.History, c.Probation = nil, time.Hour })
	rollBack := func() (wire.SwapResult, int) {
		result, err := l.client.Rollback(t.Context())
		var answer *wire.Error
		if errors.As(err, &answer) {
			return result, answer.Status
		}
		if err != nil {
			t.Fatal(err)
		}
		return result, http.StatusOK
	}
	if _, status := rollBack(); status != http.StatusConflict {
		t.Errorf("with nothing to go back to: %d", status)
	}
	good := other(t)
	if _, err := l.client.Swap(t.Context(), good, l.sign(good)); err != nil {
		t.Fatal(err)
	}
	result, status := rollBack() // the new object is on trial: what was before is known
	if status != http.StatusOK || result.Digest != BuiltIn().Digest() || result.Previous != bpf.DigestOf(good) {
		t.Errorf("on trial: %d %+v", status, result)
	}
	if got := l.snapshot().Loaded.Digest; got != BuiltIn().Digest() {
		t.Errorf("%s runs", got)
	}
	if list, err := l.client.Objects(t.Context()); err != nil || len(list.History) != 0 {
		t.Errorf("the history is %+v: %v", list.History, err)
	}
}

func TestGoingBackToAnObjectThatIsGoodIsNoTrial(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Probation = time.Hour })
	onTrial := func() bool {
		l.agent.mu.Lock()
		defer l.agent.mu.Unlock()
		return l.agent.trial != nil
	}
	swap := func(object []byte) {
		t.Helper()
		if _, err := l.client.Swap(t.Context(), object, l.sign(object)); err != nil {
			t.Fatal(err)
		}
	}
	swap(other(t))
	if !onTrial() {
		t.Error("a new object is not on trial")
	}
	swap(other(t))
	if !onTrial() {
		t.Error("the same object once more has ended its trial")
	}
	swap(probe.Object())
	if onTrial() {
		t.Error("the object that has counted well is on trial")
	}
	if s := l.snapshot(); s.Swaps != 2 {
		t.Errorf("%d swaps, want two: the same object is none", s.Swaps)
	}
}

// Two people at once: the second roll back was asked for of an object that is gone.
func TestARollbackOfWhatIsNotThereAnyMoreIsRefused(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Probation = time.Hour })
	gone := Object{Bytes: other(t)}
	if _, err := l.agent.rollBackTo(gone, gone); err == nil || !strings.Contains(err.Error(), "another object was swapped in meanwhile") {
		t.Errorf("it says %v", err)
	}
	if got := l.snapshot().Loaded.Digest; got != BuiltIn().Digest() {
		t.Errorf("%s runs", got)
	}
}
