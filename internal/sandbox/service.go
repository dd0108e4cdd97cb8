// Package sandbox starts one service alone in a network namespace of its own,
// asks whether it is healthy, and measures what that took.
//
// The namespace has nothing but a loopback interface, so a service with a
// fixed port cannot collide with anything and reaches nobody. Whatever the
// answer, everything that was started is dead and reaped when Try returns, and
// dies with the calling process. It keeps files, users and limits of the
// machine: this is a place to try our own builds, not to contain foreign code.
package sandbox

import (
	"fmt"
	"time"
)

// Service says how to start a service and how to see that it works.
type Service struct {
	// Path of the executable.
	Path string
	Args []string
	// Env is added to PATH, HOME and TMPDIR; the caller's own environment is
	// not passed on. HOME and TMPDIR are a directory removed afterwards.
	Env []string
	// Dir is the working directory; empty: the same directory as HOME.
	Dir string
	// Runner is put in front of Path, for example qemu-aarch64-static.
	Runner []string
	// Port it listens on; 0: the only one it listens on.
	Port int
	// Health is the path of a GET request that must be answered with a
	// status of 200 to 399. Empty: accepting a connection is enough.
	Health string
	// Start is how long it may take to get healthy; 0: 10 s.
	Start time.Duration
}

// Answer is what a healthy service said, and what it took to get there.
type Answer struct {
	// Status and Body of the health request; zero when Health is empty.
	// The body is cut after 64 KiB.
	Status int
	Body   []byte
	Port   int
	// Startup is the time from exec to the first good answer. Listening is
	// looked for every millisecond.
	Startup time.Duration
	// PeakRSSBytes is the largest resident set up to that answer.
	PeakRSSBytes int64
}

const defaultStart = 10 * time.Second

// ExitError is a service that ended before it gave a good answer.
type ExitError struct {
	Path  string
	State string // "exit status 1", "signal: killed"
	// Tail holds the last lines it wrote to stdout and stderr.
	Tail []string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended before it answered: %s%s", e.Path, e.State, telling(e.Tail))
}

// NotReadyError is a service that gave no good answer in time.
type NotReadyError struct {
	Path   string
	Waited time.Duration
	Why    string // what was seen last, for example "GET /healthz on port 80: 503"
	Tail   []string
}

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("%s gave no good answer within %v: %s%s", e.Path, e.Waited, e.Why, telling(e.Tail))
}

// Hint says where to look.
func (e *NotReadyError) Hint() string {
	return "check the health path, the port and the time allowed for the start in sluice.yaml"
}

// PortsError is a service that listens on several ports, with none named.
type PortsError struct {
	Path  string
	Ports []int
}

func (e *PortsError) Error() string {
	return fmt.Sprintf("%s listens on several ports: %v", e.Path, e.Ports)
}

// Hint says what to configure.
func (e *PortsError) Hint() string { return "name the port that serves requests in sluice.yaml" }

// NotAllowedError says that this process may not create a network namespace.
type NotAllowedError struct{ Err error }

func (e *NotAllowedError) Error() string {
	return fmt.Sprintf("creating a network namespace: %v", e.Err)
}
func (e *NotAllowedError) Unwrap() error { return e.Err }

// Hint says who may.
func (e *NotAllowedError) Hint() string {
	return "run as root, or allow user namespaces (sysctl user.max_user_namespaces, " +
		"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns)"
}
