package engine

import (
	"bytes"
	"io"
	"regexp"
	"sync"
)

// line is one that a program in a container wrote, as the dagger command shows it,
// deep in a tree or not: 53  : ┆ [2m21s] | ✓ canary ….
var line = regexp.MustCompile(`^[0-9]+ *: +(?:┆ *)*\[[0-9hms.]+\] \| (.*)$`)

// steps passes on what sluice wrote in a container, and nothing else of the
// engine's many lines.
type steps struct {
	mu   sync.Mutex
	w    io.Writer
	rest []byte
}

// Write takes any part of a text.
func (s *steps) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = append(s.rest, p...)
	for {
		text, rest, whole := bytes.Cut(s.rest, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		s.rest = rest
		m := line.FindSubmatch(bytes.TrimRight(text, "\r"))
		if m != nil && !bytes.HasPrefix(m[1], []byte("cloud url=")) { // an advertisement
			if _, err := s.w.Write(append(m[1], '\n')); err != nil {
				return 0, err
			}
		}
	}
}

// Steps is a writer for Open that passes on to w only what programs in containers
// wrote.
func Steps(w io.Writer) io.Writer { return &steps{w: w} }
