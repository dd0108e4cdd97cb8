// Package objects keeps the history of eBPF objects: which were loaded, when and
// by whom, with which signature, and how they did.
//
// An object is stored once, under its digest, and never changed. Everything else
// about it is an [Event]. Events are added and never changed: nobody can make a
// bad object good by writing over what another node said. Of each object the
// newest 200 are kept, and of the older ones those on which a verdict rests: see
// prune.go. Any number of processes, and with etcd any number of nodes, may read
// and write at once.
//
// There are two backends: a directory ([Dir]) and etcd ([Etcd]). Reading an
// object compares its bytes with its digest again, so what was damaged on the way
// is refused. Signatures are not checked here; who loads an object checks them.
// A privileged process links this package, so it speaks to etcd by net/http alone.
package objects

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/bpf"
)

// ErrNotFound means that the history has no such object.
var ErrNotFound = errors.New("not in the history of objects")

// maxObject bounds an object, maxBundle a bundle, maxReason the text of a mark.
const (
	maxObject = 16 << 20
	maxBundle = 256 << 10
	maxReason = 4 << 10
)

// Kind is what happened to an object.
type Kind string

// What can happen to an object. A bundle comes with Stored only.
const (
	Stored Kind = "stored" // put into the history
	Loaded Kind = "loaded" // counting in the kernel of a node
	Good   Kind = "good"   // a node found it to work
	Bad    Kind = "bad"    // a node found it not to work, see Reason
)

// Event is one thing that happened to an object.
type Event struct {
	Digest bpf.Digest `json:"digest"`
	Kind   Kind       `json:"kind"`
	Time   time.Time  `json:"time"`             // by the clock of By
	By     string     `json:"by"`               // node or person
	Reason string     `json:"reason,omitempty"` // for people
	Bundle []byte     `json:"bundle,omitempty"` // signature of the object, as JSON
}

// Entry is what the history knows of an object.
type Entry struct {
	Digest bpf.Digest `json:"digest"`
	Time   time.Time  `json:"time"`             // first stored
	By     string     `json:"by"`               // who stored it first
	Bundle []byte     `json:"bundle,omitempty"` // of the last time that it was stored; nil: none
	Good   bool       `json:"good"`             // somebody found it good, and nobody's last word is that it is bad
	Events []Event    `json:"events"`           // oldest first; the newest 200 and a few older ones
}

// Object is an entry with its bytes, which have the digest of the entry.
type Object struct {
	Entry
	Bytes []byte
}

// backend stores bytes by digest and appends to one list of events.
type backend interface {
	// put stores an object, unless it is there and whole.
	put(ctx context.Context, digest bpf.Digest, object []byte) error
	// get returns what is stored; the caller compares the digest. ErrNotFound.
	get(ctx context.Context, digest bpf.Digest) ([]byte, error)
	// add appends an event, wholly or not at all.
	add(ctx context.Context, e Event) error
	// events lists all, in an order that is the same for everybody; those of
	// one object if the digest is not empty.
	events(ctx context.Context, digest bpf.Digest) ([]Event, error)
	// prune removes those events of an object that stale names by their index,
	// oldest first, so that whoever reads meanwhile finds the same verdict.
	prune(ctx context.Context, digest bpf.Digest, stale func([]Event) []int) error
	close() error
}

// History is a history of objects. It is safe for concurrent use.
type History struct {
	backend backend
	by      string
	now     func() time.Time
}

// Put stores an object with its bundle, which may be nil, and returns its digest.
// Storing the same again changes nothing. With another bundle (a new key) the
// new one counts from then on.
func (h *History) Put(ctx context.Context, object, bundle []byte) (bpf.Digest, error) {
	switch {
	case len(object) == 0:
		return "", errors.New("storing an eBPF object: it is empty")
	case len(object) > maxObject:
		return "", fmt.Errorf("storing an eBPF object: it has %d bytes, more than %d", len(object), maxObject)
	case len(bundle) > maxBundle:
		return "", fmt.Errorf("storing an eBPF object: its bundle has %d bytes, more than %d", len(bundle), maxBundle)
	}
	digest := bpf.DigestOf(object)
	if err := h.backend.put(ctx, digest, object); err != nil {
		return "", fmt.Errorf("storing eBPF object %s: %w", digest, err)
	}
	known, err := h.backend.events(ctx, digest)
	if err != nil {
		return "", fmt.Errorf("storing eBPF object %s: %w", digest, err)
	}
	if e := entry(known); e.Digest == digest && slices.Equal(e.Bundle, bundle) {
		return digest, nil
	}
	if err := h.add(ctx, h.event(digest, Stored, "", bundle), known); err != nil {
		return "", fmt.Errorf("storing eBPF object %s: %w", digest, err)
	}
	return digest, nil
}

// Get returns an object. ErrNotFound; *bpf.DigestError if what is stored was
// changed.
func (h *History) Get(ctx context.Context, digest bpf.Digest) (Object, error) {
	e, err := h.entry(ctx, digest)
	if err != nil {
		return Object{}, fmt.Errorf("reading eBPF object %s: %w", digest, err)
	}
	raw, err := h.backend.get(ctx, digest)
	if err != nil {
		return Object{}, fmt.Errorf("reading eBPF object %s: %w", digest, err)
	}
	if got := bpf.DigestOf(raw); got != digest {
		return Object{}, fmt.Errorf("reading eBPF object %s from the history: %w", digest, &bpf.DigestError{Want: digest, Got: got})
	}
	return Object{Entry: e, Bytes: raw}, nil
}

// Find returns what is known of an object, without its bytes. ErrNotFound.
func (h *History) Find(ctx context.Context, digest bpf.Digest) (Entry, error) {
	e, err := h.entry(ctx, digest)
	if err != nil {
		return Entry{}, fmt.Errorf("looking for eBPF object %s: %w", digest, err)
	}
	return e, nil
}

// LoadedHere returns the objects that this node has counted with, the one loaded
// last first.
func (h *History) LoadedHere(ctx context.Context) ([]Entry, error) {
	events, err := h.backend.events(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("looking for the eBPF objects that were loaded here: %w", err)
	}
	return latest(events, func(e Event) bool { return e.Kind == Loaded && e.By == h.by }), nil
}

// List returns every object, in the order in which they were first stored.
func (h *History) List(ctx context.Context) ([]Entry, error) {
	events, err := h.backend.events(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("listing eBPF objects: %w", err)
	}
	return fold(events), nil
}

// LastGood returns the object that was found good most recently and is not the
// one excepted: what a rollback goes back to. ErrNotFound if there is none; a
// good object whose bytes were changed is passed over.
func (h *History) LastGood(ctx context.Context, except bpf.Digest) (Object, error) {
	return h.LastGoodOf(ctx, except, func(Object) error { return nil })
}

// LastGoodOf is LastGood among the objects that accept returns no error for. It
// passes over what somebody without a key has put into the history. If nothing is
// accepted, the error has every reason.
func (h *History) LastGoodOf(ctx context.Context, except bpf.Digest, accept func(Object) error) (Object, error) {
	events, err := h.backend.events(ctx, "")
	if err != nil {
		return Object{}, fmt.Errorf("looking for the last good eBPF object: %w", err)
	}
	var passed []error
	for _, e := range lastGood(events, except) {
		o, err := h.Get(ctx, e.Digest)
		if changed := (*bpf.DigestError)(nil); err != nil && !errors.As(err, &changed) && !errors.Is(err, ErrNotFound) {
			return Object{}, err // the next one could not be read, either
		}
		if err == nil {
			if err = accept(o); err == nil {
				return o, nil
			}
		}
		passed = append(passed, err)
	}
	if len(passed) > 0 {
		return Object{}, errors.Join(passed...)
	}
	return Object{}, fmt.Errorf("looking for the last good eBPF object: %w", ErrNotFound)
}

// MarkLoaded notes that a node counts with the object now.
func (h *History) MarkLoaded(ctx context.Context, digest bpf.Digest) error {
	return h.mark(ctx, digest, Loaded, "")
}

// MarkGood notes that the object works.
func (h *History) MarkGood(ctx context.Context, digest bpf.Digest, reason string) error {
	return h.mark(ctx, digest, Good, reason)
}

// MarkBad notes that the object does not work. It is not rolled back to any
// more, on any node, until the same node calls it good again.
func (h *History) MarkBad(ctx context.Context, digest bpf.Digest, reason string) error {
	return h.mark(ctx, digest, Bad, reason)
}

func (h *History) mark(ctx context.Context, digest bpf.Digest, kind Kind, reason string) error {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
	}
	e, err := h.entry(ctx, digest)
	if err != nil {
		return fmt.Errorf("marking eBPF object %s as %s: %w", digest, kind, err)
	}
	if err := h.add(ctx, h.event(digest, kind, reason, nil), e.Events); err != nil {
		return fmt.Errorf("marking eBPF object %s as %s: %w", digest, kind, err)
	}
	return nil
}

// Close gives back what the backend holds open.
func (h *History) Close() error { return h.backend.close() }

func (h *History) entry(ctx context.Context, digest bpf.Digest) (Entry, error) {
	if !validDigest(digest) {
		return Entry{}, fmt.Errorf("%q is no digest, want sha256: and 64 hexadecimal digits: %w", digest, ErrNotFound)
	}
	events, err := h.backend.events(ctx, digest)
	if err != nil {
		return Entry{}, err
	}
	e := entry(events)
	if e.Digest != digest {
		return Entry{}, ErrNotFound
	}
	return e, nil
}

// add appends an event to those that are known of its object, and removes the
// stale ones when they are many.
func (h *History) add(ctx context.Context, e Event, known []Event) error {
	if err := h.backend.add(ctx, e); err != nil {
		return err
	}
	if len(stale(known)) >= pruneAt {
		_ = h.backend.prune(ctx, e.Digest, stale) // the event is written, and the next one tries again
	}
	return nil
}

func (h *History) event(digest bpf.Digest, kind Kind, reason string, bundle []byte) Event {
	return Event{Digest: digest, Kind: kind, Time: h.now().UTC(), By: h.by, Reason: reason, Bundle: bundle}
}
