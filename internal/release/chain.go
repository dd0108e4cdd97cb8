package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// genesis is what the first line names as its predecessor.
var genesis = strings.Repeat("0", 64)

// maxLine bounds a line of the ledger, so that a foreign file cannot fill the memory.
const maxLine = 1 << 20

// entry is one line of the ledger: the start or the end of a rollout, or that
// its verdict is forgotten; in the first line of a shortened ledger, what was cut
// off. Where it is kept a further field, hash, follows as the last one: the
// SHA-256 of the line's object without that field.
type entry struct {
	Prev              string     `json:"prev"`
	ID                int        `json:"id"`
	Started           *Rollout   `json:"started,omitempty"`
	Finished          *Result    `json:"finished,omitempty"`
	BreachToTrafficMS *int64     `json:"breach_to_traffic_ms,omitempty"`
	Forgotten         *Forgotten `json:"forgotten,omitempty"`
	Cut               *cutOff    `json:"cut,omitempty"`
}

// kinds counts what the line is at once; it must be one thing.
func (e entry) kinds() (n int) {
	for _, is := range []bool{e.Started != nil, e.Finished != nil, e.Forgotten != nil, e.Cut != nil} {
		if is {
			n++
		}
	}
	return n
}

const (
	hashStart = `,"hash":"`
	hashEnd   = `"}`
	hashTail  = len(hashStart) + 64 + len(hashEnd)
)

// chain is everything that the whole lines of a ledger say.
type chain struct {
	records   []Record
	last      int // the id given last
	lines     int
	cut       int    // lines that were cut off before them
	head      string // hash of the last line
	size      int64  // bytes of all whole lines
	tornBytes int    // behind them: a line that was never completed
}

// parse reads a ledger. A problem is a *CorruptError without a path.
func parse(raw []byte) (chain, error) {
	c := chain{head: genesis}
	for len(raw) > 0 {
		end := bytes.IndexByte(raw, '\n')
		if end < 0 {
			if !c.torn(raw) {
				return c, &CorruptError{Line: c.lines + 1, Why: "the file does not end with a line that we began to write"}
			}
			c.tornBytes = len(raw)
			break
		}
		e, hash, err := parseLine(raw[:end])
		if err == nil {
			err = c.check(e)
		}
		if err != nil {
			return c, &CorruptError{Line: c.lines + 1, Why: err.Error()}
		}
		c.add(e, hash, end+1)
		raw = raw[end+1:]
	}
	return c, nil
}

// torn reports whether tail can be the beginning of a line that was being
// written. Bytes that never reached the disk may be zero. A whole line with
// something else for its line feed is not torn: it was complete once.
func (c *chain) torn(tail []byte) bool {
	for i, want := range []byte(`{"prev":"` + c.head + `","id":`) {
		if i < len(tail) && tail[i] != want && tail[i] != 0 {
			return false
		}
	}
	_, _, err := parseLine(tail[:len(tail)-1])
	return err != nil
}

// parseLine checks the hash of one line, without its line feed, and decodes it.
func parseLine(line []byte) (entry, string, error) {
	if len(line) > maxLine {
		return entry{}, "", fmt.Errorf("line of %d bytes, at most %d are allowed", len(line), maxLine)
	}
	if len(line) <= hashTail {
		return entry{}, "", errors.New("not a line of a ledger")
	}
	body, tail := line[:len(line)-hashTail], string(line[len(line)-hashTail:])
	hash := tail[len(hashStart) : len(hashStart)+64]
	if !strings.HasPrefix(tail, hashStart) || !strings.HasSuffix(tail, hashEnd) || !hexDigest.MatchString(hash) {
		return entry{}, "", errors.New("the line does not end with its hash")
	}
	if got := hashOf(body); got != hash {
		return entry{}, "", fmt.Errorf("the line's content has the hash %.12s…, it says %.12s…", got, hash)
	}
	var e entry
	dec := json.NewDecoder(io.MultiReader(bytes.NewReader(body), strings.NewReader("}")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return entry{}, "", fmt.Errorf("reading JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return entry{}, "", errors.New("more than one JSON value in a line")
	}
	return e, hash, nil
}

// encode returns the line for e, with its line feed, and its hash.
func encode(e entry) (line []byte, hash string, err error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, "", err
	}
	body := bytes.TrimSuffix(out.Bytes(), []byte("}\n"))
	hash = hashOf(body)
	line = slices.Concat(body, []byte(hashStart), []byte(hash), []byte(hashEnd), []byte("\n"))
	if len(line)-1 > maxLine {
		return nil, "", fmt.Errorf("line of %d bytes, at most %d are allowed", len(line)-1, maxLine)
	}
	return line, hash, nil
}

// hashOf hashes an object whose closing brace was left off.
func hashOf(body []byte) string {
	sum := sha256.New()
	sum.Write(body)
	sum.Write([]byte("}"))
	return hex.EncodeToString(sum.Sum(nil))
}

// check reports whether e may follow in c.
func (c *chain) check(e entry) error {
	switch {
	case e.kinds() != 1:
		return errors.New("it is neither the start nor the end of a rollout")
	case e.Cut != nil:
		return c.checkCut(e)
	case e.Prev != c.head:
		return fmt.Errorf("it follows a line with the hash %.12s…, the line before has %.12s…", e.Prev, c.head)
	case e.Started != nil && (e.ID != c.last+1 || e.Started.ID != e.ID):
		return fmt.Errorf("rollout %d starts where %d is the next one", e.ID, c.last+1)
	case e.Started != nil:
		return e.Started.check()
	}
	r := c.find(e.ID)
	switch {
	case r == nil && e.ID >= 1 && e.ID <= c.last:
		return fmt.Errorf("rollout %d is no longer in the ledger: its lines were cut off", e.ID)
	case r == nil:
		return fmt.Errorf("rollout %d ends and never started", e.ID)
	case e.Forgotten != nil:
		return e.Forgotten.check(*r)
	case r.Finished():
		return &FinishedError{ID: e.ID}
	}
	return e.Finished.check()
}

// find returns the record with this id, nil if there is none.
func (c *chain) find(id int) *Record {
	for i := range slices.Backward(c.records) {
		if c.records[i].ID == id {
			return &c.records[i]
		}
	}
	return nil
}

// add takes in an entry that passed check.
func (c *chain) add(e entry, hash string, size int) {
	c.lines, c.size = c.lines+1, c.size+int64(size)
	if e.Cut != nil {
		c.records, c.last, c.cut, c.head = slices.Clone(e.Cut.Kept), e.ID, e.Cut.Lines, e.Prev
		return
	}
	if e.Started != nil {
		c.records, c.last = append(c.records, Record{Rollout: *e.Started}), e.ID
	}
	r := c.find(e.ID)
	if e.Finished != nil {
		r.Result, r.BreachToTrafficMS = *e.Finished, e.BreachToTrafficMS
	}
	if e.Forgotten != nil {
		r.Forgotten = e.Forgotten
	}
	r.Prev, r.Hash = e.Prev, hash
	c.head = hash
}
