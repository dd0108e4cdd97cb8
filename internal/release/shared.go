package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// ErrConflict means that a place has changed since it was read.
var ErrConflict = errors.New("it has changed meanwhile")

// Place keeps the lines of a ledger to which several processes write at once.
// An error with a method Temporary() bool that returns true may go away by
// itself; whether something was written is then unknown.
type Place interface {
	// String names the place for a person.
	String() string
	// Load returns all lines, none if there are none yet, and a word that stands
	// for this version of them.
	Load(ctx context.Context) (text []byte, version string, err error)
	// Save replaces the lines. Those of the version are the beginning of next,
	// and one new line follows, unless the place has a limit and old lines were cut
	// off. If the place has another version by now nothing changes, and the error
	// is ErrConflict.
	Save(ctx context.Context, version string, next []byte) error
}

// Shared is a ledger to which several processes write at once, in a place of
// theirs. It is hash-chained like the one in a file; damage is a [*CorruptError]
// and is never repaired. Its methods may be called from several goroutines.
type Shared struct {
	Place    Place
	Limit    int           // bytes; beyond it the oldest rollouts that have ended go. 0: none
	Patience time.Duration // how long a place may be away or contended before an error; 0: 30 s
}

// DefaultPatience is for a Shared that says nothing else: an API server that is
// started again is back by then.
const DefaultPatience = 30 * time.Second

// Pauses between two attempts grow from the first to the last. Who was too late
// comes again soon, or it would always be too late.
const (
	firstPause = 20 * time.Millisecond
	latePause  = 160 * time.Millisecond
	lastPause  = 2 * time.Second
)

var _ Log = (*Shared)(nil)

// Start is that of [Log].
func (s *Shared) Start(ctx context.Context, r Rollout) (id int, err error) {
	e, err := s.append(ctx, "starting a rollout", func(c *chain) (entry, error) { return started(c, r), c.free(r) })
	return e.ID, err
}

// Finish is that of [Log].
func (s *Shared) Finish(ctx context.Context, id int, r Result) error {
	e := finished(id, r)
	_, err := s.append(ctx, "ending a rollout", func(*chain) (entry, error) { return e, nil })
	return err
}

// Forget is that of [Log].
func (s *Shared) Forget(ctx context.Context, id int, f Forgotten) error {
	e := forgotten(id, f)
	_, err := s.append(ctx, "forgetting a verdict", func(*chain) (entry, error) { return e, nil })
	return err
}

// Records is that of [Log].
func (s *Shared) Records(ctx context.Context) (records []Record, err error) {
	err = s.patiently(ctx, "reading", func(ctx context.Context) error {
		c, _, _, err := s.load(ctx)
		records = c.records
		return err
	})
	return records, err
}

// Verify checks every hash and every link.
func (s *Shared) Verify(ctx context.Context) (sum Summary, err error) {
	err = s.patiently(ctx, "reading", func(ctx context.Context) error {
		c, _, _, err := s.load(ctx)
		sum = c.summary()
		return err
	})
	return sum, err
}

func (s *Shared) load(ctx context.Context) (chain, []byte, string, error) {
	text, version, err := s.Place.Load(ctx)
	if err != nil {
		return chain{}, nil, "", err
	}
	c, err := parse(text)
	if err == nil && c.tornBytes > 0 {
		err = &CorruptError{Line: c.lines + 1, Why: "the line has no end"}
	}
	if err != nil {
		return chain{}, nil, "", inFile(err, s.Place.String())
	}
	return c, text, version, nil
}

// append adds the line that next makes for the present end of the chain.
func (s *Shared) append(ctx context.Context, doing string, next func(*chain) (entry, error)) (entry, error) {
	var done entry
	sent := map[string]entry{} // lines that may have been written although no success was reported; after a conflict an equal line is another's
	err := s.patiently(ctx, doing, func(ctx context.Context) error {
		c, text, version, err := s.load(ctx)
		if err != nil {
			return err
		}
		for hash, e := range sent {
			if bytes.Contains(text, []byte(hashStart+hash+hashEnd)) {
				done = e
				return nil
			}
		}
		e, err := next(&c)
		if err != nil {
			return err
		}
		e.Prev = c.head
		if err := c.check(e); err != nil {
			return err
		}
		line, hash, err := encode(e)
		if err != nil {
			return err
		}
		text = append(text[:len(text):len(text)], line...)
		if s.Limit > 0 {
			if text, err = shorten(text, s.Limit); err != nil {
				return err
			}
		}
		done, err = e, s.Place.Save(ctx, version, text)
		if err != nil && !errors.Is(err, ErrConflict) {
			sent[hash] = e
		}
		return err
	})
	if err != nil {
		return entry{}, err
	}
	return done, nil
}

// patiently tries again as long as somebody else was faster, or the place away.
func (s *Shared) patiently(ctx context.Context, doing string, try func(context.Context) error) error {
	patience := s.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := firstPause; ; pause *= 2 {
		err := try(ctx)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("ledger %s: %s: %w", s.Place, doing, err)
		if !errors.Is(err, ErrConflict) && !temporary(err) {
			return err
		}
		pause = min(pause, lastPause)
		if errors.Is(err, ErrConflict) {
			pause = min(pause, latePause)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause)) // so that two do not meet again and again
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
