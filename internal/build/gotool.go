package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// NoGoError says that the go tool cannot be started.
type NoGoError struct{ Err error }

func (e *NoGoError) Error() string { return fmt.Sprintf("starting the go tool: %v", e.Err) }
func (e *NoGoError) Unwrap() error { return e.Err }

// Hint says what to install.
func (e *NoGoError) Hint() string { return "install Go 1.24 or newer and put it into PATH" }

// goEnv is what `go env` says, in the module's directory, about things that
// must be passed on (where modules come from) or known (the version).
type goEnv map[string]string

// passed are the variables that say where modules and cached results are
// found; none of them changes a byte of the result. Everything else that
// starts with GO or CGO is cut off, also what `go env -w` has stored.
var passed = []string{
	"GOAUTH", "GOCACHE", "GOCACHEPROG", "GOINSECURE", "GOMODCACHE", "GONOPROXY", "GONOSUMDB",
	"GOPATH", "GOPRIVATE", "GOPROXY", "GOROOT", "GOSUMDB", "GOTOOLCHAIN", "GOVCS", "GOWORK",
}

// kept are variables of the Go runtime: they limit the compiler's appetite.
var kept = map[string]bool{"GOMAXPROCS": true, "GOMEMLIMIT": true, "GOGC": true}

func readGoEnv(ctx context.Context, dir string) (goEnv, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json", "GOVERSION", "GOMOD"}, passed...)...)
	cmd.Dir = dir
	var stderr output
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("asking the go tool for its environment: %w", ctx.Err())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, fmt.Errorf("asking the go tool for its environment: %w: %s", err, stderr.lastLine())
	}
	if err != nil {
		return nil, &NoGoError{err}
	}
	env := goEnv{}
	if err := json.Unmarshal(out, &env); err != nil {
		return nil, fmt.Errorf("reading the output of go env: %w", err)
	}
	return env, nil
}

// environ returns the environment of a build for p, with replacements last.
func (e goEnv) environ(p Platform, more ...string) []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if kept[name] || !strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "CGO_") {
			env = append(env, kv)
		}
	}
	for _, name := range passed {
		if e[name] != "" {
			env = append(env, name+"="+e[name])
		}
	}
	env = append(env, "GOENV=off", "CGO_ENABLED=0", "LC_ALL=C", "PWD=")
	return append(append(env, p.env()...), more...)
}

// tool is one run of the go tool.
type tool struct {
	dir  string
	env  []string
	args []string
}

// grace is how long an interrupted go tool may take to clean up.
const grace = 2 * time.Second

// run runs the go tool in a process group of its own and returns its last
// output. When ctx ends, the group is interrupted, and killed after a while.
func (t tool) run(ctx context.Context) (*output, error) {
	// The death signal follows the thread that forked, which must therefore
	// live as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out := new(output)
	cmd := exec.CommandContext(ctx, "go", t.args...)
	cmd.Dir, cmd.Env = t.dir, t.env
	cmd.Stdout, cmd.Stderr = out, out
	ownGroup(cmd)
	var last *time.Timer
	cmd.Cancel = func() error {
		last = time.AfterFunc(grace, func() { killGroup(cmd.Process.Pid) })
		return interruptGroup(cmd.Process.Pid)
	}
	cmd.WaitDelay = 2 * grace
	err := cmd.Run()
	if last != nil {
		last.Stop()
		killGroup(cmd.Process.Pid)
	}
	if ctx.Err() != nil {
		return out, ctx.Err()
	}
	if errors.Is(err, exec.ErrNotFound) {
		return out, &NoGoError{err}
	}
	return out, err
}
