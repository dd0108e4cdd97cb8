package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/internal/engine/command"
)

// The variables that Dagger's client reads.
const (
	sessionPort  = "DAGGER_SESSION_PORT"
	sessionToken = "DAGGER_SESSION_TOKEN"
	cliVariable  = "_EXPERIMENTAL_DAGGER_CLI_BIN"
	runnerHost   = "_EXPERIMENTAL_DAGGER_RUNNER_HOST"
)

// askTimeout is for questions to programs and sockets of this machine.
const askTimeout = 10 * time.Second

// Place is where an engine is.
type Place struct {
	Session string // address of a session that somebody opened already
	CLI     string // the dagger command that opens one otherwise
	Runner  string // and the engine that it opens it with
}

func (p Place) String() string {
	if p.Session != "" {
		return "the Dagger session at " + p.Session
	}
	return "the Dagger engine at " + p.Runner
}

// MissingError means that there is no engine to work with.
type MissingError struct{ Reason string }

func (e *MissingError) Error() string { return "no Dagger engine: " + e.Reason }

// Hint says what to do. Nothing is ever downloaded.
func (e *MissingError) Hint() string {
	return "start Dagger " + command.EngineVersion + " and put its command into PATH, or name a running engine in " + runnerHost +
		" (unix:///run/dagger/engine.sock), or leave out --engine"
}

// Find looks for an engine that runs: the session in the environment, the engine
// that the environment names, or one in a container of this machine. Dagger's
// client would download its command where there is none, and its command would
// download an engine; so both have to be here before either is asked. The error
// is a *MissingError.
func Find(ctx context.Context) (Place, error) {
	if port, given := os.LookupEnv(sessionPort); given {
		return findSession(ctx, port)
	}
	cli, err := findCommand()
	if err != nil {
		return Place{}, err
	}
	p := Place{CLI: cli, Runner: os.Getenv(runnerHost)}
	if p.Runner == "" {
		if p.Runner, err = findContainer(ctx); err != nil {
			return Place{}, err
		}
	}
	if err := p.reachable(ctx); err != nil {
		return Place{}, err
	}
	// The client asks nobody else which command to start.
	if err := os.Setenv(cliVariable, cli); err != nil {
		return Place{}, fmt.Errorf("naming the dagger command: %w", err)
	}
	return p, nil
}

func findSession(ctx context.Context, port string) (Place, error) {
	if os.Getenv(sessionToken) == "" {
		return Place{}, &MissingError{fmt.Sprintf("%s is %q, but %s is empty: dagger run sets both", sessionPort, port, sessionToken)}
	}
	p := Place{Session: "127.0.0.1:" + port}
	return p, p.dial(ctx, "tcp", p.Session)
}

// findCommand is the dagger command of this machine.
func findCommand() (string, error) {
	name := os.Getenv(cliVariable)
	if name == "" {
		path, err := exec.LookPath("dagger")
		if err != nil {
			return "", &MissingError{"there is no session in the environment and no dagger command in PATH"}
		}
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", &MissingError{fmt.Sprintf("%s names %s, which is no program", cliVariable, name)}
	}
	return path, nil
}

// findContainer is a running engine as the dagger command starts one.
func findContainer(ctx context.Context) (string, error) {
	want := "dagger-engine-" + command.EngineVersion
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, tool := range []string{"docker", "podman", "nerdctl", "finch"} {
		out, err := exec.CommandContext(ctx, tool, "ps", "--format", "{{.Names}}").Output()
		if err != nil {
			continue
		}
		for name := range bytes.Lines(out) {
			if name := strings.TrimSpace(string(name)); name == want {
				return "container+" + tool + "://" + name, nil
			}
		}
	}
	return "", &MissingError{fmt.Sprintf("%s is not set, and no container called %s runs here", runnerHost, want)}
}

// reachable asks an address whether anybody is there. Other kinds of address are
// Dagger's to know.
func (p Place) reachable(ctx context.Context) error {
	u, err := url.Parse(p.Runner)
	if err != nil || u.Scheme == "" {
		return &MissingError{fmt.Sprintf("%s is %q, which is no address (write unix:///run/dagger/engine.sock or tcp://host:port)", runnerHost, p.Runner)}
	}
	switch u.Scheme {
	case "unix":
		return p.dial(ctx, "unix", u.Host+u.Path)
	case "tcp":
		return p.dial(ctx, "tcp", u.Host)
	case "image", "docker-image":
		return &MissingError{fmt.Sprintf("%s is %s, an image that would be downloaded", runnerHost, p.Runner)}
	}
	return nil
}

func (p Place) dial(ctx context.Context, network, address string) error {
	d := net.Dialer{Timeout: askTimeout}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return &MissingError{fmt.Sprintf("nobody answers at %s: %v", cmp.Or(p.Runner, p.Session), err)}
	}
	return conn.Close()
}
