package sandbox

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Try starts the service in a fresh network namespace and waits for its first
// good answer. It needs root, or the right to create user namespaces and a
// program that calls Reexec; else the error is a *NotAllowedError. A service
// that does not work gives an *ExitError, a *NotReadyError or a *PortsError.
func Try(ctx context.Context, s Service) (Answer, error) {
	if s.Start == 0 {
		s.Start = defaultStart
	}
	var answer Answer
	err := onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return &NotAllowedError{err}
		}
		var err error
		answer, err = try(ctx, s)
		return err
	})
	var refused *NotAllowedError
	if errors.As(err, &refused) && errors.Is(err, unix.EPERM) {
		return tryInUserNamespace(ctx, s, refused)
	}
	return answer, err
}

// onOwnThread runs f on a thread that nothing else will ever use again: the
// goroutine ends while locked, so the runtime ends the thread, and with it its
// membership in a namespace.
//
// The main thread is passed over. It cannot end, and /proc/self shows its
// namespaces as those of the whole process.
func onOwnThread(f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onOwnThread(f) // another thread, as this one is taken
			runtime.UnlockOSThread()
			return
		}
		result <- f()
	}()
	return <-result
}

// try does the work of Try on a thread that is in the namespace already.
func try(ctx context.Context, s Service) (Answer, error) {
	if err := loopbackUp(); err != nil {
		return Answer{}, fmt.Errorf("preparing the network namespace: %w", err)
	}
	p, err := start(s)
	if err != nil {
		return Answer{}, fmt.Errorf("starting %s: %w", s.Path, err)
	}
	defer p.kill()
	return p.firstAnswer(ctx)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("switching the loopback interface on: %w", err)
	}
	return nil
}
