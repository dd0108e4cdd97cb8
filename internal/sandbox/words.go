package sandbox

import (
	"strings"
	"sync"
)

const (
	keptBytes = 8 << 10
	keptLines = 10
)

// words keeps the end of what a service writes.
type words struct {
	mu  sync.Mutex
	buf []byte
}

func (w *words) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	if over := len(w.buf) - keptBytes; over > 0 {
		w.buf = append(w.buf[:0], w.buf[over:]...)
	}
	return len(p), nil
}

// last returns the last lines, without empty ones; after a crash of a Go
// program the lines from the reason on, instead of the end of a stack.
func (w *words) last() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for line := range strings.Lines(string(w.buf)) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			lines = append(lines, strings.ToValidUTF8(line, "�"))
		}
	}
	for i := len(lines) - 1; i >= 0; i-- {
		if crash(lines[i]) {
			return lines[i:min(i+keptLines, len(lines))]
		}
	}
	return lines[max(0, len(lines)-keptLines):]
}

func crash(line string) bool {
	return strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ")
}

// telling returns ": " and the line that says most, or nothing.
func telling(tail []string) string {
	switch {
	case len(tail) == 0:
		return ""
	case crash(tail[0]):
		return ": " + tail[0]
	}
	return ": " + strings.TrimSpace(tail[len(tail)-1])
}
