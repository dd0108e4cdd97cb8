package objects

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/bpf"
)

// verdict is what a reader takes from the events of an object.
type verdict struct {
	Stored Event // first
	Bundle string
	Good   bool
	Bad    string
	Last   map[string]bool // nodes that have loaded it
}

func verdictOf(events []Event) verdict {
	e := entry(events)
	v := verdict{Stored: e.Events[0], Bundle: string(e.Bundle), Good: e.Good, Last: map[string]bool{}}
	v.Bad, _ = e.Bad()
	for _, event := range events {
		if event.Kind == Loaded {
			v.Last[event.By] = true
		}
	}
	return v
}

// TestWhatIsStaleChangesNoVerdict removes stale events one by one, as a node does
// that is killed meanwhile.
func TestWhatIsStaleChangesNoVerdict(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	digest := bpf.DigestOf([]byte("object"))
	kinds := []Kind{Stored, Loaded, Loaded, Good, Good, Bad, "audited"}
	for run := range 200 {
		events := []Event{{Digest: digest, Kind: Stored, By: "first", Bundle: []byte("b0")}}
		for i := range r.IntN(3 * maxEvents) {
			e := Event{Digest: digest, Kind: kinds[r.IntN(len(kinds))], By: fmt.Sprint("node-", r.IntN(5)), Reason: fmt.Sprint(i)}
			if e.Kind == Stored {
				e.Bundle = fmt.Append(nil, "b", i)
			}
			if run%2 == 0 && e.Kind == Bad && i > 20 { // else hardly anything is good
				e.Kind = Good
			}
			events = append(events, e)
		}
		want := verdictOf(events)
		remove := stale(events)
		if !slices.IsSorted(remove) {
			t.Fatal("not oldest first")
		}
		for n := range remove {
			left := slices.Clone(events)
			for _, i := range slices.Backward(remove[:n+1]) {
				left = slices.Delete(left, i, i+1)
			}
			if n < len(remove)-1 && n%50 != 0 {
				continue
			}
			if diff := cmp.Diff(want, verdictOf(left)); diff != "" {
				t.Fatalf("after %d of %d: %s", n+1, len(remove), diff)
			}
			if n == len(remove)-1 && len(left) > maxEvents+20 {
				t.Errorf("%d of %d events are left", len(left), len(events))
			}
		}
	}
}

// TestAHistoryDoesNotGrowWithoutEnd marks one object again and again.
func TestAHistoryDoesNotGrowWithoutEnd(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			one, two := s.node(t, "node-1"), s.node(t, "node-2")
			digest, err := one.Put(ctx, []byte("object"), []byte("{}"))
			if err != nil {
				t.Fatal(err)
			}
			other, err := one.Put(ctx, []byte("another"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := two.MarkBad(ctx, digest, "it is slow"); err != nil {
				t.Fatal(err)
			}
			const marks = maxEvents + 2*pruneAt + 10
			for i := range marks {
				if err := one.MarkGood(ctx, digest, fmt.Sprint(i)); err != nil {
					t.Fatal(err)
				}
			}
			list, err := two.List(ctx)
			if err != nil || len(list) != 2 || list[0].Digest != digest || list[1].Digest != other || len(list[1].Events) != 1 {
				t.Fatal(list, err)
			}
			e := list[0]
			if n := len(e.Events); n > maxEvents+pruneAt+2 || n < maxEvents {
				t.Errorf("%d events are kept of %d", n, marks+2)
			}
			if reason, bad := e.Bad(); !bad || reason != "it is slow" || e.Good || e.By != "node-1" || string(e.Bundle) != "{}" {
				t.Errorf("what is left says good=%v, bad %q, stored by %q", e.Good, reason, e.By)
			}
			if last := e.Events[len(e.Events)-1]; last.Reason != fmt.Sprint(marks-1) {
				t.Errorf("the newest event is %+v", last)
			}
		})
	}
}

func TestWhatThisNodeHasLoaded(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			one, two := s.node(t, "node-1"), s.node(t, "node-2")
			put := func(content string) bpf.Digest {
				d, err := one.Put(ctx, []byte(content), nil)
				if err != nil {
					t.Fatal(err)
				}
				return d
			}
			a, b, c := put("a"), put("b"), put("c")
			for _, step := range []struct {
				node   *History
				digest bpf.Digest
			}{{one, a}, {one, b}, {two, c}, {one, a}, {two, b}} {
				if err := step.node.MarkLoaded(ctx, step.digest); err != nil {
					t.Fatal(err)
				}
			}
			list, err := one.LoadedHere(ctx)
			if err != nil || len(list) != 2 || list[0].Digest != a || list[1].Digest != b {
				t.Errorf("node-1 has loaded %v: %v, want a and before it b", list, err)
			}
		})
	}
}
