// Package engine runs Sluice in the containers of a Dagger engine.
//
// It finds an engine that is there already and never fetches one. The engine gets
// the source, the out folder and the sluice command itself, does in a container
// what sluice run does, and gives the out folder back. The pinned image, the
// tools in it and the command lines are those of the Dagger module: the packages
// command, toolbox and enginetest are copies of the module's, because Dagger reads
// a Go module from one folder only. A test holds them together; UPDATE=1 copies
// them again.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"dagger.io/dagger"

	"github.com/sluice-cd/sluice/internal/engine/command"
)

// connectTimeout is how long an engine may take to answer at all; tests are less
// patient.
var connectTimeout = 90 * time.Second

// Session is a connection to an engine. Close ends what runs in it.
type Session struct {
	client *dagger.Client
	cancel context.CancelFunc
}

// Open connects to the engine that Find names and checks its version. What the
// engine reports while it works goes to log. The error is a *MissingError if no
// engine answers, and a *VersionError if it is too old.
func Open(ctx context.Context, log io.Writer) (*Session, error) {
	place, err := Find(ctx)
	if err != nil {
		return nil, err
	}
	live, cancel := context.WithCancel(ctx)
	late := time.AfterFunc(connectTimeout, cancel)
	opts := []dagger.ClientOpt{
		dagger.WithLogOutput(log), dagger.WithEnvironmentVariable("NO_COLOR", "1"), dagger.WithEnvironmentVariable("DAGGER_PROGRESS", "plain"),
	}
	if place.Runner != "" {
		opts = append(opts, dagger.WithRunnerHost(place.Runner))
	}
	client, err := dagger.Connect(live, opts...)
	if err != nil {
		defer cancel()
		return nil, notOpened(ctx, place, err, late.Stop())
	}
	s := &Session{client: client, cancel: cancel}
	err = s.check(live)
	if inTime := late.Stop(); err != nil || !inTime {
		return nil, errors.Join(notOpened(ctx, place, err, inTime), s.Close())
	}
	return s, nil
}

// notOpened is why there is no session.
func notOpened(ctx context.Context, place Place, err error, inTime bool) error {
	if !inTime && ctx.Err() == nil {
		return &MissingError{Reason: fmt.Sprintf("%s did not answer within %v", place, connectTimeout)}
	}
	return broken(ctx, fmt.Sprintf("connecting to %s", place), err)
}

// VersionError means that an engine is too old for what it would be asked.
type VersionError struct{ Err error }

func (e *VersionError) Error() string { return e.Err.Error() }

func (e *VersionError) Unwrap() error { return e.Err }

// check refuses an engine of the wrong version.
func (s *Session) check(ctx context.Context) error {
	version, err := s.client.Version(ctx)
	if err != nil {
		return err
	}
	if err := command.CheckEngine(version); err != nil {
		return &VersionError{err}
	}
	return nil
}

// platform refuses an engine whose containers cannot run the command it is given.
func (s *Session) platform(ctx context.Context, j Job) error {
	if j.Foreign {
		return nil
	}
	got, err := s.client.DefaultPlatform(ctx)
	if err != nil {
		return broken(ctx, "asking the engine for its platform", err)
	}
	if ours := runtime.GOOS + "/" + runtime.GOARCH; string(got) != ours && !strings.HasPrefix(string(got), ours+"/") {
		return &PlatformError{Engine: string(got), Ours: ours}
	}
	return nil
}

// PlatformError means that this program does not run in the engine's containers.
type PlatformError struct{ Engine, Ours string }

func (e *PlatformError) Error() string {
	return fmt.Sprintf("the containers of the engine are %s, this sluice is for %s", e.Engine, e.Ours)
}

// Hint says how to go on.
func (e *PlatformError) Hint() string {
	return "give a sluice for " + e.Engine + " with --engine-binary"
}

// Close ends the session, and with it whatever still runs for it.
func (s *Session) Close() error {
	s.cancel()
	if err := s.client.Close(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("leaving the engine: %w", err)
	}
	return nil
}

// broken says in one line why an engine did not do what it was asked.
func broken(ctx context.Context, doing string, err error) error {
	var version *VersionError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", doing, ctx.Err())
	case errors.As(err, &version):
		return version
	case strings.Contains(err.Error(), "insecure root capabilities"), strings.Contains(err.Error(), "security.insecure is not allowed"):
		return &PrivilegeError{err}
	}
	return &Error{Doing: doing, Err: err}
}

// PrivilegeError means that an engine lets nobody run as root of its kernel.
type PrivilegeError struct{ Err error }

func (e *PrivilegeError) Error() string {
	return "the engine refuses root capabilities, which packing and the eBPF probe need"
}

func (e *PrivilegeError) Unwrap() error { return e.Err }

// Hint says where that is set.
func (e *PrivilegeError) Hint() string {
	return "set insecureRootCapabilities in the security section of its engine.json, or use another engine"
}

// Error is what an engine answered, the part of it that a person needs.
type Error struct {
	Doing string
	Err   error
}

func (e *Error) Error() string { return e.Doing + ": " + lastLine(e.Err.Error()) }

func (e *Error) Unwrap() error { return e.Err }

// lastLine is the last line of a text that says anything: an engine reports how it
// got there first.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
