package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestEveryTruncationOfTheLastLineIsCut(t *testing.T) {
	raw := written(t)
	whole := bytes.LastIndexByte(raw[:len(raw)-1], '\n') + 1
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	for size := whole; size < len(raw); size++ {
		if err := os.WriteFile(path, raw[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if h, err := ReadHistory(path); err != nil || len(h) != 2 {
			t.Fatalf("at %d a reader got %d records, %v", size, len(h), err)
		}
		l, err := OpenLedger(path)
		if err != nil {
			t.Fatalf("at %d: %v", size, err)
		}
		if l.Cut() != size-whole || len(l.Records()) != 2 {
			t.Fatalf("at %d: cut %d bytes, %d records", size, l.Cut(), len(l.Records()))
		}
		if _, err := l.Start(rollout("v1.2.0")); err != nil {
			t.Fatalf("at %d: %v", size, err)
		}
		l.Close()
		if got, _ := os.ReadFile(path); !bytes.Equal(got, raw) {
			t.Fatalf("at %d: after the cut the same append gives other bytes", size)
		}
	}
}

func TestEveryFlippedByteIsFound(t *testing.T) {
	raw := written(t)
	path := filepath.Join(t.TempDir(), "ledger.jsonl")
	for at := range raw {
		for _, flip := range []byte{0x01, 0x20, 0xff, raw[at] ^ '\n', raw[at]} {
			if flip == 0 {
				continue
			}
			bad := bytes.Clone(raw)
			bad[at] ^= flip
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := ReadHistory(path)
			corrupt, ok := errors.AsType[*CorruptError](err)
			if want := 1 + bytes.Count(raw[:at], []byte("\n")); !ok || corrupt.Line != want || corrupt.Path != path {
				t.Fatalf("byte %d ^ %#x: got %v, want damage in line %d", at, flip, err, want)
			}
		}
	}
	if _, err := OpenLedger(path); err == nil || !strings.Contains(err.Error(), "damaged in line 5") {
		t.Errorf("a writer got %v", err)
	}
	if got, _ := os.ReadFile(path); len(got) != len(raw) {
		t.Error("damage was repaired")
	}
}

func TestMovedLinesAreFound(t *testing.T) {
	lines := strings.SplitAfter(strings.TrimSuffix(string(written(t)), "\n"), "\n")
	lines[4] += "\n"
	for name, tt := range map[string]struct {
		order []int
		line  int
	}{
		"the first line is missing": {[]int{1, 2, 3, 4}, 1},
		"a middle line is missing":  {[]int{0, 1, 3, 4}, 3},
		"two lines are swapped":     {[]int{0, 1, 3, 2, 4}, 3},
		"a line is doubled":         {[]int{0, 1, 1, 2, 3, 4}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			var text string
			for _, i := range tt.order {
				text += lines[i]
			}
			_, err := parse([]byte(text))
			if corrupt, ok := errors.AsType[*CorruptError](err); !ok || corrupt.Line != tt.line || corrupt.Hint() == "" {
				t.Errorf("got %v, want damage in line %d", err, tt.line)
			}
		})
	}
}

// chained gives each body its hash, so that only what it says can be wrong.
func chained(bodies ...string) []byte {
	var out strings.Builder
	prev := genesis
	for _, body := range bodies {
		body = strings.TrimSuffix(strings.ReplaceAll(body, "PREV", prev), "}")
		prev = hashOf([]byte(body))
		out.WriteString(body + hashStart + prev + hashEnd + "\n")
	}
	return []byte(out.String())
}

func TestWellHashedNonsenseIsRefused(t *testing.T) {
	const start = `{"prev":"PREV","id":1,"started":{"id":1,"name":"a","version":"1.0.0","started":"2025-01-01T00:00:00Z"}}`
	const end = `{"prev":"PREV","id":1,"finished":{"outcome":"promoted","ended":"2025-01-01T00:00:00Z"}}`
	if c, err := parse(chained(start, end)); err != nil || len(c.records) != 1 {
		t.Fatalf("the sound one: %v", err)
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want string
	}{
		"an unknown field":             {chained(strings.Replace(start, `"name"`, `"x":1,"name"`, 1)), "unknown field"},
		"neither start nor end":        {chained(`{"prev":"PREV","id":1}`), "neither"},
		"both start and end":           {chained(strings.TrimSuffix(start, "}") + `,"finished":{"outcome":"promoted"}}`), "neither"},
		"an end without a start":       {chained(end), "never started"},
		"an end after the end":         {chained(start, end, end), "ends twice"},
		"a start with a wrong number":  {chained(strings.ReplaceAll(start, `"id":1`, `"id":2`)), "where 1 is the next"},
		"an outcome nobody knows":      {chained(start, strings.Replace(end, "promoted", "great", 1)), "unknown outcome"},
		"two values in a line":         {chained(start + `{}`), "JSON"},
		"another genesis":              {chained(strings.Replace(start, "PREV", abc, 1)), "it follows"},
		"an empty line":                {[]byte("\n"), "not a line"},
		"a line without a hash":        {[]byte(strings.Repeat("x", 200) + "\n"), "does not end with its hash"},
		"an endless line":              {bytes.Repeat([]byte("x"), maxLine+2), "does not end with a line that we began"},
		"an endless line with its end": {append(bytes.Repeat([]byte("x"), maxLine+2), '\n'), "at most"},
		"another program's short file": {[]byte("hello"), "does not end with a line that we began"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(tt.raw); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestZerosAtTheEndAreATornLine(t *testing.T) {
	raw := written(t)
	for name, tail := range map[string]string{"only zeros": "\x00\x00\x00", "a beginning and zeros": `{"prev":"` + strings.Repeat("\x00", 300)} {
		t.Run(name, func(t *testing.T) {
			if c, err := parse([]byte(string(raw) + tail)); err != nil || c.tornBytes != len(tail) {
				t.Errorf("torn %d, %v; want %d", c.tornBytes, err, len(tail))
			}
		})
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	testenv.NeedRoot(t)
	for pages := range testenv.Chaos(t, testenv.FullDisk, 2) {
		t.Run(fmt.Sprintf("%d KiB are left", 4+4*(pages%12)), func(t *testing.T) { fillDisk(t, 48-4*(pages%12)) })
	}
}

// fillDisk lets an append fail on a disk of 64 KiB of which others have some, and
// repeats it when there is space.
func fillDisk(t *testing.T, others int) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "ledger.jsonl")
	l := open(t, path)
	t.Cleanup(func() { l.Close() })
	id, err := l.Start(rollout("v1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, others<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	long := promoted()
	long.Reason = strings.Repeat("x", 100<<10) // some of it fits, not all
	err = l.Finish(id, long)
	if full, ok := errors.AsType[*FullError](err); !ok || !errors.Is(full, syscall.ENOSPC) || full.Hint() == "" {
		t.Fatalf("got %v, want a full disk", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Errorf("%d bytes before, %d after", len(before), len(after))
	}
	if len(l.Unfinished()) != 1 {
		t.Error("the rollout counts as finished")
	}
	if err := os.Remove(filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	if err := l.Finish(id, promoted()); err != nil {
		t.Errorf("the same append with some space: %v", err)
	}
	if s, err := Verify(path); err != nil || s.Lines != 2 {
		t.Errorf("%+v, %v", s, err)
	}
	l.Close()
}

func FuzzParse(f *testing.F) {
	path := filepath.Join(f.TempDir(), "ledger.jsonl")
	l, err := OpenLedger(path)
	if err != nil {
		f.Fatal(err)
	}
	id, _ := l.Start(Rollout{Name: "a", Version: "v1.0.0", Started: time.Unix(1, 0)})
	l.Finish(id, Result{Outcome: Promoted, Ended: time.Unix(2, 0)})
	l.Close()
	raw, _ := os.ReadFile(path)
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add(append(bytes.Clone(raw), raw...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := parse(raw)
		if err != nil {
			if _, ok := errors.AsType[*CorruptError](err); !ok {
				t.Fatalf("an error without a place: %v", err)
			}
			return
		}
		if c.size+int64(c.tornBytes) != int64(len(raw)) || bytes.Count(raw, []byte("\n")) != c.lines {
			t.Fatalf("%d bytes in %d lines and %d torn of %d", c.size, c.lines, c.tornBytes, len(raw))
		}
		if again, err := parse(raw[:c.size]); err != nil || again.head != c.head || len(again.records) != len(c.records) {
			t.Fatalf("without the torn line: %v", err)
		}
		Running(c.records)
		Before(c.records)
	})
}
