package release

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// full is a shared ledger in which the first of its rollouts was cut off.
func full(t *testing.T, limit int) (*board, *Shared) {
	t.Helper()
	b := &board{}
	s := &Shared{Place: b, Limit: limit}
	for i := range 60 {
		id, err := s.Start(t.Context(), rollout(fmt.Sprintf("v1.%d.0", i)))
		if err == nil {
			err = s.Finish(t.Context(), id, promoted())
		}
		if err != nil {
			t.Fatal(err)
		}
		if id != i+1 {
			t.Fatalf("rollout %d has the id %d", i+1, id)
		}
	}
	return b, s
}

func TestALimitedLedgerStaysSound(t *testing.T) {
	const limit = 12 << 10
	b, s := full(t, limit)
	sum, err := s.Verify(t.Context())
	if err != nil || sum.Cut == 0 || sum.Cut+sum.Lines-1 != 120 || b.largest > limit {
		t.Fatalf("%+v, %v; at most %d bytes", sum, err, b.largest)
	}
	records, err := s.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := Running(records); r.Version != "v1.59.0" {
		t.Errorf("%s serves", r.Version)
	}
	if r, _ := Before(records); r.Version != "v1.58.0" {
		t.Errorf("%s is the one before", r.Version)
	}
	raw := bytes.Clone(b.text)
	for at := range bytes.IndexByte(raw, '\n') {
		raw[at] ^= 1
		if c, err := parse(raw); err == nil && c.tornBytes == 0 {
			t.Fatalf("a change of byte %d was not found", at)
		}
		raw[at] ^= 1
	}
	_, rest, _ := bytes.Cut(raw, []byte("\n"))
	if _, err := parse(rest); err == nil {
		t.Error("the line that anchors the chain may be missing")
	}
}

// TestTheChainCanBeHeldAgainstACopy: what was cut off ends with the very hash
// that the shortened ledger begins with.
func TestTheChainCanBeHeldAgainstACopy(t *testing.T) {
	b, _ := full(t, 0)
	whole := b.text
	copied, err := parse(whole)
	if err != nil {
		t.Fatal(err)
	}
	short, err := shorten(whole, 12<<10)
	if err != nil {
		t.Fatal(err)
	}
	c, err := parse(short)
	if err != nil || c.head != copied.head || c.last != copied.last {
		t.Fatalf("head %s, %v; want %s", c.head, err, copied.head)
	}
	first, _, err := parseLine(short[:bytes.IndexByte(short, '\n')])
	if err != nil || first.Cut == nil {
		t.Fatal(first, err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	if cut, err := parse(bytes.Join(lines[:first.Cut.Lines], nil)); err != nil || cut.head != first.Prev {
		t.Errorf("the copy ends with %s, %v; the ledger goes on from %s", cut.head, err, first.Prev)
	}
}

func TestWhatRunsOutlivesTheCut(t *testing.T) {
	b := &board{}
	s := &Shared{Place: b, Limit: 6 << 10}
	open := rollout("v9.0.0")
	open.Image, open.Gate = "sha256:"+abc, "g1"
	id, err := s.Start(t.Context(), open)
	if err != nil {
		t.Fatal(err)
	}
	for range 40 { // meanwhile an operator is busy
		r := rollout("v1.0.0")
		r.Operator = "ann"
		n, err := s.Start(t.Context(), r)
		if err == nil {
			err = s.Finish(t.Context(), n, Result{Outcome: RolledBack, Trigger: Operator, Ended: noon})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := s.Verify(t.Context()); err != nil || sum.Cut == 0 {
		t.Fatal(sum, err)
	}
	if _, err := s.Start(t.Context(), rollout("v1.0.0")); err == nil {
		t.Error("it is forgotten that one runs")
	}
	if err := s.Finish(t.Context(), id, promoted()); err != nil {
		t.Fatal(err)
	}
	records, err := s.Records(t.Context())
	if r, ok := Decided(records, open.Image, "g1"); err != nil || !ok || r.ID != id {
		t.Errorf("%+v, %v", r, err)
	}
	if err := s.Finish(t.Context(), 2, promoted()); err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("one that went: %v", err)
	}
}

func TestALineThatDoesNotFit(t *testing.T) {
	b, s := full(t, 12<<10)
	before := bytes.Clone(b.text)
	long := rollout("v3.0.0")
	long.Commit = strings.Repeat("x", 13<<10)
	if _, err := s.Start(t.Context(), long); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("got %v", err)
	}
	if !bytes.Equal(before, b.text) {
		t.Error("the ledger was changed")
	}
}

// TestCutsChangeNoAnswer plays histories at random, whole and shortened.
func TestCutsChangeNoAnswer(t *testing.T) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 1))
		whole, short := &Shared{Place: &board{}}, &Shared{Place: &board{}, Limit: 15 << 10}
		for range 80 {
			r := rollout(fmt.Sprintf("v1.%d.0", random.IntN(9)))
			end := promoted()
			switch random.IntN(4) {
			case 0:
				end = Result{Outcome: RolledBack, Verdict: "fail", Trigger: SLO, Ended: noon}
			case 1:
				records, _ := whole.Records(t.Context())
				now, _ := Running(records)
				before, ok := Before(records)
				if !ok {
					continue
				}
				r.Version, r.Previous, r.Operator = now.Version, before.Version, "ann"
				end = Result{Outcome: RolledBack, Trigger: Operator, Ended: noon}
			}
			for _, s := range []*Shared{whole, short} {
				id, err := s.Start(t.Context(), r)
				if err == nil {
					err = s.Finish(t.Context(), id, end)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			a, _ := whole.Records(t.Context())
			b, _ := short.Records(t.Context())
			now, _ := Running(a)
			nowShort, _ := Running(b)
			if diff := cmp.Diff(now, nowShort); diff != "" {
				t.Fatalf("seed %d: what serves (-whole +short): %s", seed, diff)
			}
		}
	}
}

func TestWellHashedNonsenseAboutACut(t *testing.T) {
	const start = `{"prev":"PREV","id":1,"started":{"id":1,"name":"a","version":"1.0.0","started":"2025-01-01T00:00:00Z"}}`
	kept := func(id int, more string) string {
		return fmt.Sprintf(`{"prev":"`+abc+`","id":4,"cut":{"lines":8,"kept":[{"id":%d,"name":"a","version":"1.0.0","started":"2025-01-01T00:00:00Z",`+
			`"requests":{"stable":0,"canary":0},"breach_to_traffic_ms":null,"prev":"","hash":"","verdict":"","trigger":""%s}]}}`, id, more)
	}
	if c, err := parse(chained(kept(3, `,"outcome":""`))); err != nil || c.last != 4 || c.head != abc || len(Unfinished(c.records)) != 1 {
		t.Fatalf("the sound one: %+v, %v", c, err)
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want string
	}{
		"not in the first line":     {chained(start, `{"prev":"PREV","id":1,"cut":{"lines":1}}`), "not the first"},
		"nothing was cut":           {chained(`{"prev":"PREV","id":1,"cut":{"lines":0}}`), "does not say what"},
		"a hash that is none":       {chained(`{"prev":"x","id":1,"cut":{"lines":1}}`), "does not say what"},
		"a rollout of the future":   {chained(kept(5, `,"outcome":""`)), "cannot have been cut"},
		"an outcome nobody knows":   {chained(kept(3, `,"outcome":"great"`)), "unknown outcome"},
		"an unknown field":          {chained(`{"prev":"` + abc + `","id":1,"cut":{"lines":1,"x":1}}`), "unknown field"},
		"a cut and a start at once": {chained(strings.TrimSuffix(start, "}") + `,"cut":{"lines":1}}`), "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tt.raw)
			if _, ok := errors.AsType[*CorruptError](err); !ok || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzShorten(f *testing.F) {
	b := &board{}
	s := &Shared{Place: b}
	for range 5 {
		id, _ := s.Start(f.Context(), rollout("v1.0.0"))
		_ = s.Finish(f.Context(), id, promoted())
	}
	f.Add(b.text, 1000)
	f.Add(b.text, 2000)
	f.Fuzz(func(t *testing.T, raw []byte, limit int) {
		was, err := parse(raw)
		if err != nil || was.tornBytes > 0 || limit < 0 {
			return
		}
		short, err := shorten(raw, limit)
		if err != nil {
			return
		}
		is, err := parse(short)
		if err != nil || len(short) > limit || is.head != was.head || is.last != was.last {
			t.Fatalf("%d bytes, limit %d: %v", len(short), limit, err)
		}
		a, _ := Running(was.records)
		if b, _ := Running(is.records); a.ID != b.ID {
			t.Fatalf("rollout %d served, now %d", a.ID, b.ID)
		}
	})
}
