package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
)

const (
	journalName = "journal"
	objectsName = "objects"
	tempPrefix  = ".tmp-"
)

// maxLine leaves room for a bundle in base64.
const maxLine = 2*maxBundle + 2*maxReason

// lockWait is how long one process waits for another, which holds the lock for
// milliseconds.
const lockWait = 5 * time.Second

// JournalError means that a line of the journal is not as it was written.
type JournalError struct {
	Path string
	Line int
	Err  error
}

func (e *JournalError) Error() string { return fmt.Sprintf("%s, line %d: %v", e.Path, e.Line, e.Err) }

func (e *JournalError) Unwrap() error { return e.Err }

// Hint says what would help.
func (e *JournalError) Hint() string {
	return fmt.Sprintf("the file was changed or damaged; look at line %d, remove it if its loss can be borne, and find out who changed it", e.Line)
}

// directory is the backend in a directory:
//
//	objects/<hexadecimal digest>   bytes of an object
//	journal                        a line for each event: sum, blank, JSON
//
// A line that a killed writer did not finish is cut off by the next one. Every
// access holds a flock on the directory, which the kernel drops with the process.
type directory struct{ path string }

// Dir opens the history in a directory, which is made if it is missing. Events
// are signed with the name by: a node, or a person.
func Dir(path, by string) (*History, error) {
	if by == "" {
		return nil, fmt.Errorf("opening the history of objects %s: no name for who writes it", path)
	}
	if err := os.MkdirAll(filepath.Join(path, objectsName), 0o700); err != nil {
		return nil, fmt.Errorf("opening the history of objects: %w", err)
	}
	return &History{backend: &directory{path}, by: by, now: time.Now}, nil
}

func (d *directory) close() error { return nil }

func (d *directory) object(digest bpf.Digest) string {
	return filepath.Join(d.path, objectsName, strings.TrimPrefix(string(digest), "sha256:"))
}

func (d *directory) get(ctx context.Context, digest bpf.Digest) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(d.object(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", d.object(digest), ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxObject+1))
}

func (d *directory) put(ctx context.Context, digest bpf.Digest, object []byte) error {
	unlock, err := d.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	if have, err := d.get(ctx, digest); err == nil && bytes.Equal(have, object) {
		return nil
	}
	left, err := filepath.Glob(filepath.Join(d.path, tempPrefix+"*"))
	if err != nil {
		return err
	}
	for _, name := range left { // of writers that were killed: we have the lock
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	return d.write(d.object(digest), object)
}

// write makes a file, wholly or not at all.
func (d *directory) write(path string, content []byte) error {
	temp, err := os.CreateTemp(d.path, tempPrefix) // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *directory) add(ctx context.Context, e Event) error {
	line, err := encodeLine(e)
	if err != nil {
		return err
	}
	unlock, err := d.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	f, err := os.OpenFile(filepath.Join(d.path, journalName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := lastLineEnd(f)
	if err != nil {
		return err
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	if _, err := f.WriteAt(line, end); err != nil {
		return err // a half line counts for nothing
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(d.path)
}

// lastLineEnd is where the last whole line ends.
func lastLineEnd(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	from := max(0, info.Size()-maxLine)
	tail, err := io.ReadAll(io.NewSectionReader(f, from, info.Size()-from))
	if err != nil {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n')
	if end < 0 && from > 0 {
		return 0, fmt.Errorf("%s: a line is longer than any event", f.Name())
	}
	return from + int64(end) + 1, nil
}

func (d *directory) events(ctx context.Context, digest bpf.Digest) ([]Event, error) {
	unlock, err := d.lock(ctx, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer unlock()
	lines, err := d.journal()
	if err != nil {
		return nil, err
	}
	var list []Event
	for _, l := range lines {
		if digest == "" || l.Digest == digest {
			list = append(list, l.Event)
		}
	}
	return list, nil
}

// line is one of the journal.
type line struct {
	Event
	raw []byte // with its end
}

// journal reads all lines. The caller holds a lock.
func (d *directory) journal() ([]line, error) {
	path := filepath.Join(d.path, journalName)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []line
	for {
		end := bytes.IndexByte(raw, '\n')
		if end < 0 { // the end, or what a killed writer left
			return list, nil
		}
		e, err := decodeLine(raw[:end])
		if err != nil {
			return nil, &JournalError{Path: path, Line: len(list) + 1, Err: err}
		}
		list = append(list, line{e, raw[:end+1]})
		raw = raw[end+1:]
	}
}

// prune writes the journal anew, without some lines of an object.
func (d *directory) prune(ctx context.Context, digest bpf.Digest, stale func([]Event) []int) error {
	unlock, err := d.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unlock()
	lines, err := d.journal()
	if err != nil {
		return err
	}
	var events []Event
	var at []int // of each of them in the journal
	for i, l := range lines {
		if l.Digest == digest {
			events, at = append(events, l.Event), append(at, i)
		}
	}
	for _, i := range stale(events) {
		lines[at[i]].raw = nil
	}
	var kept []byte
	for _, l := range lines {
		kept = append(kept, l.raw...)
	}
	return d.write(filepath.Join(d.path, journalName), kept)
}

// sumLen is the length of the sum before an event, against accidents. It does
// not protect from somebody who may write the file.
const sumLen = 16

func lineSum(text []byte) []byte {
	sum := sha256.Sum256(text)
	return hex.AppendEncode(nil, sum[:sumLen/2])
}

func encodeLine(e Event) ([]byte, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s %s\n", lineSum(text), text), nil
}

func decodeLine(line []byte) (Event, error) {
	if len(line) < sumLen+1 || line[sumLen] != ' ' {
		return Event{}, errors.New("no event")
	}
	text := line[sumLen+1:]
	if !bytes.Equal(line[:sumLen], lineSum(text)) {
		return Event{}, errors.New("the sum of the line is wrong")
	}
	return decodeEvent(text)
}

// decodeEvent lets pass what a newer version may add: a node that is not
// upgraded yet has to be able to roll back.
func decodeEvent(text []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return Event{}, err
	}
	if !validDigest(e.Digest) {
		return Event{}, fmt.Errorf("%q is no digest", e.Digest)
	}
	return e, nil
}

// lock takes a lock on the directory, shared or exclusive.
func (d *directory) lock(ctx context.Context, how int) (unlock func(), err error) {
	f, err := os.Open(d.path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("locking %s: %w", d.path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, fmt.Errorf("locking %s, which another process holds: %w", d.path, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}
