package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// A thread of a process with several cannot enter a user namespace, so without
// root the work is done by a second process: this program again, started
// inside the new namespaces, with the service on stdin and the reply on stdout.
const reexecVariable = "SLUICE_SANDBOX_REEXEC"

// reexecs is set when this program calls Reexec; starting a program again
// that does not would run all of it a second time.
var reexecs bool

type reply struct {
	Answer   Answer
	Exit     *ExitError     `json:",omitempty"`
	NotReady *NotReadyError `json:",omitempty"`
	Ports    *PortsError    `json:",omitempty"`
	Other    string         `json:",omitempty"`
}

// Reexec lets Try work without root. A program calls it first thing in main,
// and returns from main when the result is true: the process was the helper of
// another Try and has done its work.
func Reexec() bool {
	if os.Getenv(reexecVariable) == "" {
		reexecs = true
		return false
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	runtime.LockOSThread() // the service dies with this thread
	var s Service
	var r reply
	err := json.NewDecoder(os.Stdin).Decode(&s)
	if err == nil {
		r.Answer, err = try(ctx, s)
	}
	switch e := err.(type) { //nolint:errorlint // try returns these three bare
	case nil:
	case *ExitError:
		r.Exit = e
	case *NotReadyError:
		r.NotReady = e
	case *PortsError:
		r.Ports = e
	default:
		r.Other = err.Error()
	}
	_ = json.NewEncoder(os.Stdout).Encode(r) // nobody to tell if the parent is gone
	return true
}

// tryInUserNamespace is Try without root; refused is why it is needed.
func tryInUserNamespace(ctx context.Context, s Service, refused *NotAllowedError) (Answer, error) {
	self, err := os.Executable()
	if err != nil || !reexecs {
		return Answer{}, refused
	}
	request, err := json.Marshal(s)
	if err != nil {
		return Answer{}, fmt.Errorf("passing the service on: %w", err)
	}
	runtime.LockOSThread() // the helper dies with this thread
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), reexecVariable+"=1")
	cmd.Stdin = bytes.NewReader(request)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second
	if err := cmd.Start(); err != nil {
		return Answer{}, &NotAllowedError{err}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return Answer{}, fmt.Errorf("trying %s: %w", s.Path, ctx.Err())
	}
	if err != nil {
		return Answer{}, fmt.Errorf("trying %s in a user namespace: %w: %s", s.Path, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return readReply(out.Bytes())
}

func readReply(data []byte) (Answer, error) {
	var r reply
	if err := json.Unmarshal(data, &r); err != nil {
		return Answer{}, fmt.Errorf("reading the helper's reply: %w", err)
	}
	switch {
	case r.Exit != nil:
		return Answer{}, r.Exit
	case r.NotReady != nil:
		return Answer{}, r.NotReady
	case r.Ports != nil:
		return Answer{}, r.Ports
	case r.Other != "":
		return Answer{}, fmt.Errorf("in a user namespace: %s", r.Other)
	}
	return r.Answer, nil
}
