// Package confine takes from this process what it no longer needs: capabilities,
// the way to new ones, system calls, files.
//
// Apply is one-way and holds for every thread, those of the future included. It
// leaves to the caller what to keep, and when: whatever needs more than that
// has to be done before. The kernel enforces all of it; nothing here trusts the
// process to behave afterwards.
package confine

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Limits is what a process keeps. The zero value keeps nothing but the
// seccomp profile's calls.
type Limits struct {
	Capabilities []Capability
	Profile      *Profile // system calls; required
	Read         []string // files, and folders with all below, that may be read
	Write        []string // folders in which files may be made, changed and removed; they may be read, too
	Remove       []string // folders from which files and empty folders may be removed
}

// Report says what holds after Apply.
type Report struct {
	Capabilities []Capability
	Calls        int // system calls that are allowed, some only with certain arguments
	Landlock     int // version of the kernel's Landlock; 0: it has none, and any file of our user can be reached
}

// Apply confines the process. After an error it must not go on: it may be
// confined in part. A binary that was built with cgo cannot be confined,
// because the Go runtime does not know all of its threads.
func Apply(l Limits) (Report, error) {
	if l.Profile == nil {
		return Report{}, errors.New("confining the process: no seccomp profile was given")
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return Report{}, fmt.Errorf("giving up new privileges: %w", err)
	}
	version, err := restrictFiles(l)
	if err != nil {
		return Report{}, fmt.Errorf("restricting files: %w", err)
	}
	if err := keepCapabilities(l.Capabilities); err != nil {
		return Report{}, fmt.Errorf("giving up capabilities: %w", err)
	}
	calls, err := l.Profile.Install()
	if err != nil {
		return Report{}, fmt.Errorf("restricting system calls: %w", err)
	}
	return Report{Capabilities: l.Capabilities, Calls: calls, Landlock: version}, nil
}

// allThreads makes a system call in every thread of the process.
func allThreads(call, a, b, c uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(call, a, b, c, 0, 0, 0)
	return threadsError(errno)
}

func threadsError(errno syscall.Errno) error {
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return errors.New("this binary was built with cgo; build it with CGO_ENABLED=0")
	}
	return errno
}
