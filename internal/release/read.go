package release

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// CorruptError says that a ledger holds something that no writer of ours has
// put there: a byte has changed, or a line is missing, doubled or moved.
type CorruptError struct {
	Path string
	Line int // counted from 1
	Why  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("ledger %s is damaged in line %d: %s", e.Path, e.Line, e.Why)
}

// Hint tells what to do about it. Nothing here repairs a ledger.
func (e *CorruptError) Hint() string {
	return "restore " + e.Path + " from a backup, or move it away to begin a new history; every line before that one is sound"
}

// ReadHistory returns every rollout of the ledger at path, oldest first. It
// takes no lock: it may be called while another process appends, and then sees
// what was complete at that moment. Damage is a [*CorruptError]; without a
// ledger the error is an [io/fs.ErrNotExist].
func ReadHistory(path string) ([]Record, error) {
	c, err := read(path)
	return c.records, err
}

// Summary is what [Verify] found in a sound ledger.
type Summary struct {
	Lines     int
	Cut       int    // lines that were cut off before them, since the place for the ledger is limited
	Head      string // hash of the last line: who keeps it can later tell whether lines at the end were taken away
	TornBytes int    // of a last line that is incomplete: being written right now, or left by a crash
}

func (c *chain) summary() Summary {
	return Summary{Lines: c.lines, Cut: c.cut, Head: c.head, TornBytes: c.tornBytes}
}

// Verify checks every hash and every link of the ledger at path, without a
// lock. Damage is a [*CorruptError].
func Verify(path string) (Summary, error) {
	c, err := read(path)
	return c.summary(), err
}

// read parses the ledger at path. A writer may cut a line back while we read
// and write another one in its place; what we have then looks damaged, so only
// damage that is still the same in a second look counts.
func read(path string) (chain, error) {
	var last []byte
	for {
		raw, err := os.ReadFile(path)
		if err != nil {
			return chain{}, fmt.Errorf("reading ledger: %w", err)
		}
		c, err := parse(raw)
		if err == nil {
			return c, nil
		}
		if last != nil && bytes.Equal(raw, last) {
			return chain{}, inFile(err, path)
		}
		last = raw
	}
}

// inFile adds the path to a *CorruptError.
func inFile(err error, path string) error {
	if corrupt, ok := errors.AsType[*CorruptError](err); ok {
		corrupt.Path = path
	}
	return err
}
