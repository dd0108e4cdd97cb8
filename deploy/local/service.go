package local

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Service is one version of a service as it is to be run on this machine.
type Service struct {
	Version string            `json:"version"`
	Binary  string            `json:"binary"` // absolute path
	SHA256  string            `json:"sha256"` // of the binary, hexadecimal
	Args    []string          `json:"args,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	Dir     string            `json:"dir"`              // working folder
	Log     string            `json:"log"`              // file that its output is appended to
	Port    int               `json:"port,omitempty"`   // TCP port that it asks for; 0 if it listens on one only
	Health  string            `json:"health,omitempty"` // path that answers 2xx when ready; empty: accepting is enough
	Start   time.Duration     `json:"start"`            // how long it may take to become ready
	Stop    time.Duration     `json:"stop"`             // how long it may take to end after SIGTERM
}

// SameRun reports whether both run the same way: arguments, environment and
// health.
func (s Service) SameRun(o Service) bool {
	return slices.Equal(s.Args, o.Args) && maps.Equal(s.Env, o.Env) && s.Port == o.Port && s.Health == o.Health
}

// StartError says why a version did not come up.
type StartError struct {
	Version string
	Reason  string
	Log     []string // last lines that it wrote
	Err     error    // cause, may be nil
}

func (e *StartError) Error() string {
	msg := fmt.Sprintf("starting %s: %s", e.Version, e.Reason)
	if n := len(e.Log); n > 0 {
		msg += fmt.Sprintf(" (its last words: %q)", e.Log[n-1])
	}
	return msg
}

func (e *StartError) Unwrap() error { return e.Err }

// Hint says where to look.
func (e *StartError) Hint() string {
	if len(e.Log) == 0 {
		return "the service wrote nothing; check service.args, service.env and service.health in sluice.yaml"
	}
	return "the service wrote:\n    " + strings.Join(e.Log, "\n    ")
}

// PortError means that the front address cannot be had.
type PortError struct {
	Addr   string
	Holder string // who has it, as far as that can be told
	Err    error
}

func (e *PortError) Error() string {
	if e.Holder != "" {
		return fmt.Sprintf("front address %s is in use by %s", e.Addr, e.Holder)
	}
	return fmt.Sprintf("front address %s cannot be used: %v", e.Addr, e.Err)
}

func (e *PortError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *PortError) Hint() string {
	return "stop what listens there, or choose another deploy.local.listen in sluice.yaml"
}

// LockedError means that another sluice is at work on the same service.
type LockedError struct {
	Name string
	PID  string
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("another sluice (process %s) is at work on %s", e.PID, e.Name)
}

// Hint says what to do about it.
func (e *LockedError) Hint() string { return "wait for it to end, or interrupt it" }

// OwnedError means that the running versions belong to another ledger.
type OwnedError struct {
	Name, Version, Out, Want string
}

func (e *OwnedError) Error() string {
	return fmt.Sprintf("%s %s is running here for the ledger in %s, not %s", e.Name, e.Version, e.Out, e.Want)
}

// Hint says what to do about it.
func (e *OwnedError) Hint() string {
	return fmt.Sprintf("go on with --out %s, or stop it: sluice down --out %s", e.Out, e.Out)
}
