package release

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// cutOff stands at the beginning of a ledger that was shortened. The line's prev
// is the hash of the last line that was cut off, so the chain goes on behind it
// and can be held against a copy of what went; its id is the last one given there.
type cutOff struct {
	Lines int      `json:"lines"`          // cut off since the ledger began
	Kept  []Record `json:"kept,omitempty"` // what is still needed of them
}

func (c *chain) checkCut(e entry) error {
	switch {
	case c.lines > 0:
		return errors.New("lines were cut off, and it is not the first one")
	case e.Cut.Lines < 1 || e.ID < 0 || !hexDigest.MatchString(e.Prev):
		return errors.New("it does not say what was cut off")
	}
	seen := map[int]bool{}
	for _, r := range e.Cut.Kept {
		if r.ID < 1 || r.ID > e.ID || seen[r.ID] {
			return fmt.Errorf("rollout %d cannot have been cut off", r.ID)
		}
		seen[r.ID] = true
		err := r.Rollout.check()
		if err == nil && r.Finished() {
			err = r.Result.check()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// depth is how far an operator can go back in a shortened ledger whatever was
// released since.
const depth = 10

// kept is what a history must not forget: rollouts that have not ended, the
// version that serves, and those before it.
func kept(history []Record) []Record {
	stack := serving(history)
	keep := slices.Clone(stack[max(0, len(stack)-depth):])
	for _, r := range history {
		if !r.Finished() {
			keep = append(keep, r)
		}
	}
	return keep
}

// shorten cuts the oldest lines off a sound ledger that has grown beyond limit
// bytes, so that it does not have to be done again soon.
func shorten(text []byte, limit int) ([]byte, error) {
	if len(text) <= limit {
		return text, nil
	}
	const quarters = 3
	for at := len(text) - limit/4*quarters; at < len(text); {
		end := bytes.IndexByte(text[at:], '\n')
		if end < 0 {
			break
		}
		at += end + 1
		gone, err := parse(text[:at])
		if err != nil {
			return nil, err
		}
		anchor := entry{Prev: gone.head, ID: gone.last, Cut: &cutOff{Lines: gone.cut + gone.lines, Kept: kept(gone.records)}}
		if gone.cut > 0 {
			anchor.Cut.Lines-- // the line that said so before is none of the chain
		}
		line, _, err := encode(anchor)
		if err != nil {
			return nil, err
		}
		if short := append(line, text[at:]...); len(short) <= limit {
			return short, nil
		}
	}
	return nil, fmt.Errorf("the ledger has %d bytes, at most %d fit, and nothing in it can be cut off", len(text), limit)
}
