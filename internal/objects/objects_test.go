package objects

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"
)

// store is one backend: node opens it as a node of that name, damage flips a bit
// of a stored object.
type store struct {
	node   func(t *testing.T, name string) *History
	damage func(t *testing.T, digest bpf.Digest)
}

// stores are new, empty ones of every kind.
func stores(t *testing.T) map[string]store {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "history")
	server := etcdtest.Start(t)
	return map[string]store{
		"directory": {
			node: func(t *testing.T, name string) *History {
				t.Helper()
				h, err := Dir(dir, name)
				if err != nil {
					t.Fatal(err)
				}
				return h
			},
			damage: func(t *testing.T, digest bpf.Digest) {
				t.Helper()
				path := (&directory{dir}).object(digest)
				raw, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				raw[len(raw)/2] ^= 1
				if err := os.WriteFile(path, raw, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		},
		"etcd": {
			node: func(t *testing.T, name string) *History { t.Helper(); return node(t, server, name) },
			damage: func(t *testing.T, digest bpf.Digest) {
				t.Helper()
				changeInEtcd(t, node(t, server, "attacker"), digest)
			},
		},
	}
}

func TestHistory(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			one, two := s.node(t, "node-1"), s.node(t, "node-2")
			if list, err := one.List(ctx); err != nil || len(list) != 0 {
				t.Fatalf("an empty history has %v, %v", list, err)
			}
			if _, err := one.LastGood(ctx, ""); !errors.Is(err, ErrNotFound) {
				t.Errorf("the last good one of none: %v", err)
			}
			object, bundle := []byte("\x7fELF\x00\xff object"), []byte(`{"a":"bundle"}`)
			digest, err := one.Put(ctx, object, bundle)
			if err != nil || digest != bpf.DigestOf(object) {
				t.Fatal(digest, err)
			}
			// The other node sees it at once, byte for byte.
			got, err := two.Get(ctx, digest)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes, object) || !bytes.Equal(got.Bundle, bundle) || got.By != "node-1" || got.Good || time.Since(got.Time) > time.Minute {
				t.Errorf("%+v", got)
			}
			// The same again changes nothing; another bundle counts from then on.
			for _, again := range []*History{one, two} {
				if _, err := again.Put(ctx, object, bundle); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := two.Put(ctx, object, []byte(`{"another":"bundle"}`)); err != nil {
				t.Fatal(err)
			}
			got, err = one.Get(ctx, digest)
			if err != nil || string(got.Bundle) != `{"another":"bundle"}` || len(got.Events) != 2 || got.By != "node-1" {
				t.Errorf("%+v, %v", got, err)
			}
			if err := errors.Join(one.MarkLoaded(ctx, digest), one.MarkGood(ctx, digest, "a minute without fault"), two.MarkBad(ctx, digest, "it is slow")); err != nil {
				t.Fatal(err)
			}
			list, err := one.List(ctx)
			if err != nil || len(list) != 1 {
				t.Fatal(list, err)
			}
			var said []string
			for _, e := range list[0].Events {
				said = append(said, e.By+" "+string(e.Kind)+" "+e.Reason)
			}
			if diff := cmp.Diff([]string{
				"node-1 stored ", "node-2 stored ", "node-1 loaded ", "node-1 good a minute without fault", "node-2 bad it is slow",
			}, said); diff != "" {
				t.Error(diff)
			}
			// What is not there.
			other := bpf.DigestOf([]byte("another"))
			_, err = one.Get(ctx, other)
			for what, err := range map[string]error{
				"Get": err, "MarkGood": one.MarkGood(ctx, other, ""), "a digest that is a path": one.MarkGood(ctx, "../../etc/passwd", ""),
			} {
				if !errors.Is(err, ErrNotFound) {
					t.Errorf("%s: %v, want ErrNotFound", what, err)
				}
			}
			if _, err := one.Put(ctx, nil, nil); err == nil {
				t.Error("an empty object was stored")
			}
			if _, err := one.Put(ctx, make([]byte, maxObject+1), nil); err == nil {
				t.Error("an object that is too large was stored")
			}
		})
	}
}

func TestLastGood(t *testing.T) {
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			node := s.node(t, "node-1")
			var digests []bpf.Digest
			for i := range 3 {
				d, err := node.Put(ctx, fmt.Appendf(nil, "object %d", i), []byte("{}"))
				if err != nil {
					t.Fatal(err)
				}
				digests = append(digests, d)
				if err := node.MarkGood(ctx, d, ""); err != nil {
					t.Fatal(err)
				}
			}
			want := func(why string, except, want bpf.Digest) {
				t.Helper()
				got, err := s.node(t, "reader").LastGood(ctx, except)
				if want == "" && !errors.Is(err, ErrNotFound) || want != "" && (err != nil || got.Digest != want || bpf.DigestOf(got.Bytes) != want) {
					t.Errorf("%s: %s, %v, want %s", why, got.Digest, err, want)
				}
			}
			want("the newest", "", digests[2])
			want("but not that one", digests[2], digests[1])
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(s.node(t, "node-2").MarkBad(ctx, digests[1], "retransmits"))
			want("one node found it bad", digests[2], digests[0])
			must(node.MarkGood(ctx, digests[1], ""))
			want("another one's good does not outweigh it", digests[2], digests[0])
			must(s.node(t, "node-2").MarkGood(ctx, digests[1], "it was the network"))
			want("the same node takes it back", digests[2], digests[1])
			unsigned := errors.New("not signed")
			got, err := node.LastGoodOf(ctx, digests[2], func(o Object) error {
				if o.Digest == digests[1] {
					return unsigned
				}
				return nil
			})
			if err != nil || got.Digest != digests[0] {
				t.Errorf("what is not accepted is passed over: %s, %v", got.Digest, err)
			}
			if _, err := node.LastGoodOf(ctx, "", func(Object) error { return unsigned }); !errors.Is(err, unsigned) {
				t.Errorf("nothing is accepted: %v", err)
			}
			s.damage(t, digests[1])
			want("damaged ones are passed over", digests[2], digests[0])
			if _, err := node.Get(ctx, digests[1]); !errors.As(err, new(*bpf.DigestError)) {
				t.Errorf("a flipped bit: %v, want a DigestError", err)
			}
			must(node.MarkBad(ctx, digests[0], ""))
			if _, err := node.LastGood(ctx, digests[2]); !errors.As(err, new(*bpf.DigestError)) {
				t.Errorf("only a damaged one is left: %v, want a DigestError", err)
			}
			must(node.MarkBad(ctx, digests[1], ""))
			want("none is left", digests[2], "")
		})
	}
}

// TestConcurrentWriters lets eight nodes store and mark the same objects at once.
func TestConcurrentWriters(t *testing.T) {
	const nodes, rounds, different = 8, 10, 3
	for name, s := range stores(t) {
		t.Run(name, func(t *testing.T) {
			var writers sync.WaitGroup
			for n := range nodes {
				h := s.node(t, fmt.Sprint("node-", n))
				writers.Go(func() {
					for i := range rounds {
						digest, err := h.Put(t.Context(), fmt.Appendf(nil, "object %d", i%different), []byte("{}"))
						if err == nil {
							err = h.MarkGood(t.Context(), digest, fmt.Sprint(i))
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			writers.Wait()
			list, err := s.node(t, "reader").List(t.Context())
			if err != nil || len(list) != different {
				t.Fatalf("%d objects, %v, want %d", len(list), err, different)
			}
			seen := map[string]int{}
			for _, e := range list {
				if o, err := s.node(t, "reader").Get(t.Context(), e.Digest); err != nil || bpf.DigestOf(o.Bytes) != e.Digest {
					t.Error(err)
				}
				for _, event := range e.Events {
					if event.Kind == Good {
						seen[event.By+" "+event.Reason]++
					}
				}
			}
			for what, n := range seen {
				if n != 1 {
					t.Errorf("%s is there %d times", what, n)
				}
			}
			if len(seen) != nodes*rounds {
				t.Errorf("%d marks, want %d", len(seen), nodes*rounds)
			}
		})
	}
}

func TestFold(t *testing.T) {
	a, b := bpf.DigestOf([]byte("a")), bpf.DigestOf([]byte("b"))
	say := func(d bpf.Digest, k Kind, by string) Event { return Event{Digest: d, Kind: k, By: by} }
	for name, tt := range map[string]struct {
		events []Event
		good   []bpf.Digest
		stored int
	}{
		"nothing":                            {nil, nil, 0},
		"stored only":                        {[]Event{say(a, Stored, "1")}, nil, 1},
		"good":                               {[]Event{say(a, Stored, "1"), say(a, Good, "1")}, []bpf.Digest{a}, 1},
		"good without being stored":          {[]Event{say(a, Good, "1")}, nil, 0},
		"good, then bad":                     {[]Event{say(a, Stored, "1"), say(a, Good, "1"), say(a, Bad, "1")}, nil, 1},
		"bad, then good":                     {[]Event{say(a, Stored, "1"), say(a, Bad, "1"), say(a, Good, "1")}, []bpf.Digest{a}, 1},
		"good here, bad there":               {[]Event{say(a, Stored, "1"), say(a, Bad, "2"), say(a, Good, "1"), say(a, Good, "3")}, nil, 1},
		"loaded is no praise":                {[]Event{say(a, Stored, "1"), say(a, Loaded, "1")}, nil, 1},
		"stored again after a bad word":      {[]Event{say(a, Stored, "1"), say(a, Bad, "1"), say(a, Stored, "2")}, nil, 1},
		"what a later version says":          {[]Event{say(a, Stored, "1"), say(a, "audited", "1"), say(a, Good, "1")}, []bpf.Digest{a}, 1},
		"the last praised first":             {[]Event{say(b, Stored, "1"), say(a, Stored, "1"), say(b, Good, "1"), say(a, Good, "1")}, []bpf.Digest{a, b}, 2},
		"the last praised, not the last put": {[]Event{say(b, Stored, "1"), say(a, Stored, "1"), say(a, Good, "1"), say(b, Good, "1")}, []bpf.Digest{b, a}, 2},
	} {
		var got []bpf.Digest
		for _, e := range lastGood(tt.events, "") {
			got = append(got, e.Digest)
		}
		if !slices.Equal(got, tt.good) || len(fold(tt.events)) != tt.stored {
			t.Errorf("%s: good are %v, want %v; %d stored, want %d", name, got, tt.good, len(fold(tt.events)), tt.stored)
		}
	}
}

func TestOpen(t *testing.T) {
	for place, problem := range map[string]string{
		"dir:" + t.TempDir():              "",
		"etcd:https://127.0.0.1:2379":     "",
		"etcd:http://localhost:2379":      "",
		"etcd:https://a:1,https://b:1":    "",
		"":                                "want dir:PATH or etcd:",
		"/var/lib/objects":                "want dir:PATH or etcd:",
		"dir:":                            "want dir:PATH or etcd:",
		"etcd:":                           "want dir:PATH or etcd:",
		"etcd:http://etcd.test:2379":      "plain HTTP",
		"etcd:etcd.test:2379":             "https://host:port",
		"etcd:https://u:p@etcd.test:2379": "https://host:port",
		"etcd:https://etcd.test:2379/v3":  "https://host:port",
	} {
		h, err := Open(place, "node", Options{})
		if problem == "" && err != nil || problem != "" && (err == nil || !strings.Contains(err.Error(), problem)) {
			t.Errorf("%q: %v, want %q", place, err, problem)
		}
		if h != nil {
			_ = h.Close()
		}
	}
	if _, err := Open("etcd:https://a:1", "node", Options{CertFile: "only.pem"}); err == nil {
		t.Error("a certificate without its key was taken")
	}
	if _, err := Open("etcd:https://a:1", "", Options{}); err == nil {
		t.Error("nobody writes the history")
	}
}
