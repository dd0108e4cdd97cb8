package release

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
)

// Ledger is the only writer of a ledger file, until it is closed. Its methods
// may be called from several goroutines.
type Ledger struct {
	path string
	lock *os.File
	cut  int

	mu     sync.Mutex
	file   *os.File
	chain  chain
	broken error // set when the file's end is unknown; nothing is appended then
}

// FullError says that the disk, or the user's share of it, is full. The ledger
// is as it was before; the same append may be tried again.
type FullError struct {
	Path string
	Err  error
}

func (e *FullError) Error() string { return fmt.Sprintf("appending to ledger %s: %v", e.Path, e.Err) }
func (e *FullError) Unwrap() error { return e.Err }

// Hint tells how to go on.
func (e *FullError) Hint() string {
	return "free some space in " + filepath.Dir(e.Path) + " and run again; nothing in the ledger was lost"
}

// OpenLedger opens the ledger at path for writing and creates it if need be.
// Its directory must exist. All of the file is verified: damage is a
// [*CorruptError]; a torn last line, left by a crash, is cut and reported by
// [Ledger.Cut]. A second writer gets a [*LockedError].
func OpenLedger(path string) (_ *Ledger, err error) {
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			lock.Close()
		}
	}()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening ledger: %w", err)
	}
	defer func() {
		if err != nil {
			file.Close()
		}
	}()
	raw, err := io.ReadAll(file)
	if err != nil {
		return nil, fmt.Errorf("reading ledger %s: %w", path, err)
	}
	c, err := parse(raw)
	if err != nil {
		return nil, inFile(err, path)
	}
	l := &Ledger{path: path, lock: lock, file: file, chain: c, cut: c.tornBytes}
	if err := l.cutBack(); err != nil {
		return nil, err
	}
	return l, syncDir(filepath.Dir(path))
}

// Close gives the ledger to the next writer.
func (l *Ledger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = os.ErrClosed
	return errors.Join(l.file.Close(), unlock(l.lock))
}

// Cut returns how many bytes of a torn last line were cut when the ledger was
// opened: 0 after an orderly end.
func (l *Ledger) Cut() int { return l.cut }

// Records returns every rollout, oldest first.
func (l *Ledger) Records() []Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.chain.records)
}

// Unfinished returns the rollouts that have started and not ended, oldest
// first: what a writer that died has left to be closed with Finish.
func (l *Ledger) Unfinished() []Rollout { return Unfinished(l.Records()) }

// Start records the start of a rollout and returns its id; r.ID is ignored.
// When it returns, the record is on the disk. A full disk is a [*FullError].
func (l *Ledger) Start(r Rollout) (id int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := started(&l.chain, r)
	if err := l.append(e); err != nil {
		return 0, err
	}
	return e.ID, nil
}

// Finish records the end of the rollout id. When it returns, the record is on
// the disk. A full disk is a [*FullError]; the rollout is then still unfinished.
// One that has ended before is a [*FinishedError].
func (l *Ledger) Finish(id int, r Result) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(finished(id, r))
}

// Forget records that the verdict of the rollout id does not count any more.
func (l *Ledger) Forget(id int, f Forgotten) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.append(forgotten(id, f))
}

func (l *Ledger) append(e entry) error {
	if l.broken != nil {
		return fmt.Errorf("appending to ledger %s: %w", l.path, l.broken)
	}
	e.Prev = l.chain.head
	if err := l.chain.check(e); err != nil {
		return fmt.Errorf("appending to ledger %s: %w", l.path, err)
	}
	line, hash, err := encode(e)
	if err != nil {
		return fmt.Errorf("appending to ledger %s: %w", l.path, err)
	}
	if err := l.undisturbed(); err != nil {
		return fmt.Errorf("appending to ledger %s: %w", l.path, err)
	}
	if _, err = l.file.Write(line); err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		l.broken = l.cutBack()
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			return errors.Join(&FullError{Path: l.path, Err: err}, l.broken)
		}
		return errors.Join(fmt.Errorf("appending to ledger %s: %w", l.path, err), l.broken)
	}
	l.chain.add(e, hash, len(line))
	return nil
}

// undisturbed makes sure that what we append to is still what others will read.
func (l *Ledger) undisturbed() error {
	ours, err := l.file.Stat()
	if err != nil {
		return err
	}
	theirs, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	if !os.SameFile(ours, theirs) {
		return errors.New("the file was replaced by another one")
	}
	if ours.Size() != l.chain.size {
		return fmt.Errorf("something else has written to the file: it has %d bytes, not %d", ours.Size(), l.chain.size)
	}
	return nil
}

// cutBack removes everything behind the last whole line.
func (l *Ledger) cutBack() error {
	info, err := l.file.Stat()
	if err == nil && info.Size() > l.chain.size {
		err = errors.Join(l.file.Truncate(l.chain.size), l.file.Sync())
	}
	if err != nil {
		return fmt.Errorf("cutting ledger %s back: %w", l.path, err)
	}
	l.chain.tornBytes = 0
	return nil
}
