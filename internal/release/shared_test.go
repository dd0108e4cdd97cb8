package release

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkLog is what every log does.
func checkLog(t *testing.T, log Log) {
	t.Helper()
	ctx := t.Context()
	id, err := log.Start(ctx, rollout("v1.0.0"))
	if err != nil || id != 1 {
		t.Fatal(id, err)
	}
	_, err = log.Start(ctx, rollout("v1.1.0"))
	if running, ok := errors.AsType[*RunningError](err); !ok || running.Rollout.ID != 1 || running.Hint() == "" {
		t.Errorf("a second one: got %v", err)
	}
	back := rollout("v0.9.0")
	back.Operator = "ann"
	if id, err := log.Start(ctx, back); err != nil || id != 2 {
		t.Errorf("an operator: got %d, %v", id, err)
	}
	for _, id := range []int{1, 2} {
		if err := log.Finish(ctx, id, promoted()); err != nil {
			t.Fatal(err)
		}
	}
	other := promoted()
	other.Outcome = RolledBack
	err = log.Finish(ctx, 1, other)
	if ended, ok := errors.AsType[*FinishedError](err); !ok || ended.ID != 1 {
		t.Errorf("ending twice: got %v", err)
	}
	if err := log.Forget(ctx, 1, Forgotten{Operator: "ann", At: noon}); err != nil {
		t.Error(err)
	}
	records, err := log.Records(ctx)
	if err != nil || len(records) != 2 || records[0].Outcome != Promoted || records[0].Forgotten == nil || records[1].Forgotten != nil {
		t.Errorf("%+v, %v", records, err)
	}
}

// board is a place in memory, with the troubles of a network.
type board struct {
	mu       sync.Mutex
	text     []byte
	version  int
	trouble  func() (before, after error) // of a write: it is not done, or done and not confirmed
	largest  int
	attempts int
}

func (b *board) String() string { return "board" }

func (b *board) Load(context.Context) ([]byte, string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]byte(nil), b.text...), fmt.Sprint(b.version), nil
}

func (b *board) Save(_ context.Context, version string, next []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.attempts++
	var before, after error
	if b.trouble != nil {
		before, after = b.trouble()
	}
	switch {
	case before != nil:
		return before
	case version != fmt.Sprint(b.version):
		return ErrConflict
	}
	b.text, b.version, b.largest = append([]byte(nil), next...), b.version+1, max(b.largest, len(next))
	return after
}

type awayError struct{}

func (awayError) Error() string   { return "no answer" }
func (awayError) Temporary() bool { return true }

func TestTheSharedLedgerIsALog(t *testing.T) {
	checkLog(t, &Shared{Place: &board{}})
}

// TestManyWriters lets answers get lost: what was reported is there, once.
func TestManyWriters(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	b := &board{trouble: func() (before, after error) { // under the board's lock
		switch random.IntN(10) {
		case 0:
			return awayError{}, nil
		case 1, 2:
			return nil, awayError{}
		}
		return nil, nil
	}}
	reported := map[int]string{}
	var mu sync.Mutex
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			s := &Shared{Place: b, Patience: 5 * time.Minute} // the machine may be busy
			for i := range 15 {
				r := rollout("v1.0.0")
				r.Operator = fmt.Sprintf("%d-%d", w, i)
				id, err := s.Start(t.Context(), r)
				if err == nil {
					err = s.Finish(t.Context(), id, promoted())
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if was := reported[id]; was != "" {
					t.Errorf("rollout %d is that of %s and of %s", id, was, r.Operator)
				}
				reported[id] = r.Operator
				mu.Unlock()
			}
		})
	}
	writers.Wait()
	records, err := (&Shared{Place: b}).Records(t.Context())
	if err != nil || len(records) != 8*15 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	for _, r := range records {
		if r.Rollout.Operator != reported[r.ID] || !r.Finished() {
			t.Errorf("rollout %d is that of %q, who was told so is %q", r.ID, r.Rollout.Operator, reported[r.ID])
		}
	}
	t.Logf("%d writes for %d lines", b.attempts, 2*8*15)
}

func TestOneOfManyStarts(t *testing.T) {
	b := &board{}
	var started, refused int
	var mu sync.Mutex
	var writers sync.WaitGroup
	for range 10 {
		writers.Go(func() {
			_, err := (&Shared{Place: b}).Start(t.Context(), rollout("v1.0.0"))
			_, ok := errors.AsType[*RunningError](err)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				started++
			case ok:
				refused++
			default:
				t.Error(err)
			}
		})
	}
	writers.Wait()
	if started != 1 || refused != 9 {
		t.Errorf("%d started, %d were refused", started, refused)
	}
}

func TestAPlaceThatStaysAway(t *testing.T) {
	b := &board{trouble: func() (error, error) { return awayError{}, nil }}
	begin := time.Now()
	_, err := (&Shared{Place: b, Patience: 200 * time.Millisecond}).Start(t.Context(), rollout("v1.0.0"))
	if !errors.Is(err, awayError{}) || !strings.Contains(err.Error(), "board") || time.Since(begin) > time.Minute {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	b.trouble = func() (error, error) { return errors.New("forbidden"), nil }
	before := b.attempts
	if _, err := (&Shared{Place: b}).Start(t.Context(), rollout("v1.0.0")); err == nil || b.attempts != before+1 {
		t.Errorf("after %d attempts: %v", b.attempts-before, err)
	}
}

func TestDamageInASharedLedger(t *testing.T) {
	raw := written(t)
	for name, text := range map[string]string{
		"a changed byte":           strings.Replace(string(raw), "v1.1.0", "v1.1.1", 1),
		"a line without an end":    string(raw[:len(raw)-1]),
		"the beginning of a line":  string(raw[:len(raw)-40]),
		"somebody else's contents": "hello: world\n",
	} {
		t.Run(name, func(t *testing.T) {
			b := &board{text: []byte(text)}
			s := &Shared{Place: b, Patience: 5 * time.Minute} // the machine may be busy
			_, err := s.Start(t.Context(), rollout("v2.0.0"))
			corrupt, ok := errors.AsType[*CorruptError](err)
			if !ok || corrupt.Path != "board" || corrupt.Line == 0 {
				t.Errorf("got %v", err)
			}
			if _, err := s.Verify(t.Context()); err == nil {
				t.Error("it was verified")
			}
			if string(b.text) != text {
				t.Error("damage was repaired")
			}
		})
	}
}
