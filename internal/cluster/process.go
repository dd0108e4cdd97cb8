package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A program is what to start.
type program struct {
	name  string // also of its log, NAME.log
	path  string
	args  []string
	argv0 string   // what it is called, if not path
	env   []string // added to ours
	logs  string   // folder
	attr  syscall.SysProcAttr
}

// A process is a program that was started. It is killed when this process ends,
// however it ends.
type process struct {
	program
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and was reaped
	err  error         // how it ended; read after done
}

// A child gets the signal of its parent's death when the *thread* that made it
// ends, so all are made by one thread that never does.
var starter = sync.OnceValue(func() chan func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// start starts a program. Its output is added to NAME.log.
func start(p program) (*process, error) {
	log, err := os.OpenFile(filepath.Join(p.logs, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.path, p.args...)
	if p.argv0 != "" {
		cmd.Args[0] = p.argv0
	}
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	attr := p.attr
	attr.Pdeathsig, attr.Setpgid = syscall.SIGKILL, true
	cmd.SysProcAttr = &attr
	result := make(chan error)
	starter() <- func() { result <- cmd.Start() }
	if err := <-result; err != nil {
		return nil, fmt.Errorf("starting %s: %w", p.name, err)
	}
	proc := &process{program: p, cmd: cmd, done: make(chan struct{})}
	go func() {
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	return proc, nil
}

// ready asks until the answer is nil. It gives up when the process or ctx ends,
// and then shows what the log says.
func (p *process) ready(ctx context.Context, ask func(context.Context) error) error {
	var last error
	for {
		if last = ask(ctx); last == nil {
			return nil
		}
		select {
		case <-p.done:
			return &EndedError{Name: p.name, Err: p.err, Log: telling(p.logFile())}
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w: %w%s", p.name, last, ctx.Err(), indent(telling(p.logFile())))
		case <-time.After(30 * time.Millisecond):
		}
	}
}

func (p *process) logFile() string { return filepath.Join(p.logs, p.name+".log") }

// stop ends the process and those of its group, and waits. With a grace of zero
// they are killed, as a crash would.
func (p *process) stop(grace time.Duration) {
	if p == nil {
		return
	}
	if grace > 0 {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(grace):
		}
	}
	select {
	case <-p.done: // its number may belong to somebody else by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// An EndedError says that a program of the cluster ended though it should run.
type EndedError struct {
	Name string
	Err  error    // its exit status, nil for 0
	Log  []string // lines of its log that tell why
}

func (e *EndedError) Error() string {
	status := "with status 0"
	if e.Err != nil {
		status = e.Err.Error()
	}
	return fmt.Sprintf("%s ended: %s%s", e.Name, status, indent(e.Log))
}

func (e *EndedError) Unwrap() error { return e.Err }

// portTaken tells whether err is an end because a port was in use.
func portTaken(err error) bool {
	ended := (*EndedError)(nil)
	return errors.As(err, &ended) && strings.Contains(strings.Join(ended.Log, "\n"), "address already in use")
}

var serious = regexp.MustCompile(`^[EF][0-9]{4} |level=(error|fatal)|"level":"(error|fatal|panic)"|^panic:|(?i)^error|address already in use`)

// telling returns the last lines of a log that speak of an error, or simply the
// last ones.
func telling(file string) []string {
	raw, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	const most, long = 8, 400
	lines := strings.Split(string(bytes.TrimSpace(raw)), "\n")
	var bad []string
	for _, line := range lines {
		if serious.MatchString(line) {
			bad = append(bad, line)
		}
	}
	if len(bad) > 0 {
		lines = bad
	}
	lines = lines[max(0, len(lines)-most):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), long)]
	}
	return lines
}

func indent(lines []string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString("\n    " + line)
	}
	return b.String()
}
