package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// progress shows a run on stderr: one line a step, and on a terminal a last
// line that says what is going on.
type progress struct {
	w     io.Writer
	live  bool // a terminal: the last line may be rewritten
	color bool

	mu     sync.Mutex
	step   string
	begin  time.Time
	note   string
	shown  bool
	done   chan struct{}
	Events []pipeline.Event
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.live, p.color = true, os.Getenv("NO_COLOR") == ""
	}
	return p
}

// event takes note of a step.
func (p *progress) event(e pipeline.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	if e.Status == pipeline.Started {
		p.start(e.Step)
		return
	}
	p.stop()
	if e.Status == pipeline.Skipped && e.Summary == "" {
		return
	}
	p.Events = append(p.Events, e)
	mark, color := map[pipeline.Status]string{pipeline.Done: "✓", pipeline.Skipped: "–", pipeline.Failed: "✗"}[e.Status], ""
	switch e.Status {
	case pipeline.Done:
		color = "32"
	case pipeline.Failed:
		color = "31"
	case pipeline.Skipped:
		color = "2"
	}
	text := "  " + e.Summary
	if e.Status == pipeline.Failed {
		text = "" // it is the last line of all, where it is looked for
	}
	fmt.Fprintf(p.w, "%s %-8s %6.1fs%s\n", p.paint(color, mark), e.Step, e.Took.Seconds(), text)
}

// look shows one look of the gate.
func (p *progress) look(l canary.Look) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.w, "  %s  %s\n", l.End.Format(time.TimeOnly), verdict.Line(l))
}

// noting returns the function that a step calls to say what it is at.
func (p *progress) noting() func(string) {
	return func(note string) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.note = note
	}
}

func (p *progress) start(step string) {
	p.step, p.begin, p.note = step, time.Now(), ""
	if !p.live {
		return
	}
	done := make(chan struct{})
	p.done = done
	go func() {
		for tick := time.NewTicker(100 * time.Millisecond); ; {
			select {
			case <-done:
				tick.Stop()
				return
			case <-tick.C:
				p.refresh(done)
			}
		}
	}()
}

func (p *progress) refresh(done chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-done:
		return
	default:
	}
	p.clear()
	line := fmt.Sprintf("… %-8s %6.1fs  %s", p.step, time.Since(p.begin).Seconds(), p.note)
	fmt.Fprint(p.w, p.paint("2", line))
	p.shown = true
}

func (p *progress) stop() {
	if p.done != nil {
		close(p.done)
		p.done = nil
	}
}

// clear removes the live line.
func (p *progress) clear() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[2K")
		p.shown = false
	}
}

func (p *progress) paint(color, text string) string {
	if !p.color || color == "" {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func millis(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
}
