package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/internal/load"
)

// clientArg is the first argument of the process inside the cluster's network.
const clientArg = "client"

func clientFlags(c *client) *flag.FlagSet {
	f := flag.NewFlagSet(clientArg, flag.ContinueOnError)
	f.StringVar(&c.url, "url", "", "URL to ask")
	f.StringVar(&c.host, "host", "", "host name to ask for")
	f.StringVar(&c.header, "header", "", "value of X-Env in some requests of the witness")
	f.Float64Var(&c.rate, "rate", 100, "requests a second")
	f.DurationVar(&c.witness, "witness", 25*time.Millisecond, "time between two requests of the witness")
	return f
}

// traffic are the clients of a service, as this process sees them.
type traffic struct {
	stdin  io.Closer
	kill   func()
	done   chan struct{}
	err    error // of the process; read after done
	stderr strings.Builder

	mu      sync.Mutex
	total   counted
	seconds int
	answers []said // of the witness, by time
}

// counted is what clients got.
type counted struct {
	Sent    uint64 `json:"sent"`
	Failed  uint64 `json:"failed"`         // no answer
	Errors  uint64 `json:"errors"`         // 5xx
	Late    uint64 `json:"late,omitempty"` // not sent: this machine was too busy
	Reasons []string
}

func (c counted) minus(before counted) counted {
	c.Sent, c.Failed, c.Errors, c.Late = c.Sent-before.Sent, c.Failed-before.Failed, c.Errors-before.Errors, c.Late-before.Late
	c.Reasons = c.Reasons[len(before.Reasons):]
	return c
}

// runner runs a command somewhere else, until ctx ends.
type runner func(ctx context.Context, cmd *exec.Cmd) error

// startTraffic starts clients in the place of the runner. It returns when the
// first second of load has been counted.
func startTraffic(ctx context.Context, in runner, args ...string) (*traffic, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("looking for this program: %w", err)
	}
	cmd := exec.Command(program, append([]string{clientArg}, args...)...)
	t := &traffic{done: make(chan struct{})}
	cmd.Stderr = &t.stderr
	if t.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("starting clients: %w", err)
	}
	out, write := io.Pipe()
	cmd.Stdout = write
	running, kill := context.WithCancel(context.WithoutCancel(ctx))
	t.kill = kill
	go func() {
		t.err = in(running, cmd)
		_ = write.CloseWithError(io.EOF)
	}()
	go func() {
		defer close(t.done)
		t.read(out)
	}()
	err = poll(ctx, 15*time.Second, "the first second of load", func() (bool, error) {
		select {
		case <-t.done:
			return false, fmt.Errorf("the clients have ended: %w: %s", t.err, t.stderr.String())
		default:
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.seconds > 0, nil
	})
	if err != nil {
		t.stop()
	}
	return t, err
}

// read counts what the clients say.
func (t *traffic) read(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s said
		if json.Unmarshal(lines.Bytes(), &s) == nil {
			t.count(s)
		}
	}
}

func (t *traffic) count(s said) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Second != nil {
		t.seconds++
		t.total.Sent += s.Second.Sent
		t.total.Failed += s.Second.Failed
		t.total.Errors += s.Second.Classes[5]
		t.total.Late += s.Second.Late
		for _, f := range s.Second.Errors {
			t.reason(f)
		}
		return
	}
	t.total.Sent++
	switch {
	case s.Failed != "":
		t.total.Failed++
		t.reason(load.Failure{Text: s.Failed, Count: 1, First: s.At})
	case s.Status >= 500:
		t.total.Errors++
	}
	t.answers = append(t.answers, s)
}

func (t *traffic) reason(f load.Failure) {
	t.total.Reasons = append(t.total.Reasons, fmt.Sprintf("%s %d times %s", f.First.Format(time.TimeOnly), f.Count, f.Text))
}

// ended reports whether there are no clients.
func (t *traffic) ended() bool {
	if t == nil {
		return true
	}
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// now is what was counted so far.
func (t *traffic) now() counted {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.total
	c.Reasons = slices.Clone(c.Reasons)
	return c
}

// seen returns the witness's requests since a moment that a version answered and
// that had the header or not.
func (t *traffic) seen(version string, since time.Time, header bool) (list []said) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range slices.Backward(t.answers) {
		if s.At.Before(since.Add(-requestTimeout)) {
			break // lines come in the order of the ends of requests
		}
		if s.Version == version && s.Header == header && !s.At.Before(since) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b said) int { return a.At.Compare(b.At) })
	return list
}

// lastSeen is when the last request was sent that a version answered.
func (t *traffic) lastSeen(version string, since time.Time) (time.Time, bool) {
	list := t.seen(version, since, false)
	if len(list) == 0 {
		return time.Time{}, false
	}
	return list[len(list)-1].At, true
}

// stop ends the clients.
func (t *traffic) stop() {
	if t == nil {
		return
	}
	_ = t.stdin.Close()
	select {
	case <-t.done:
	case <-time.After(10 * time.Second):
		t.kill()
		<-t.done
	}
}

// errTimeout means that something did not come in time.
var errTimeout = errors.New("not in time")

// poll asks until the answer is true, an error, or the limit is over.
func poll(ctx context.Context, limit time.Duration, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		ok, err := ask()
		if err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w (waited %v)", what, errTimeout, limit)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
