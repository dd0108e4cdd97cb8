package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// lockTimeout is how long a writer waits for another one. Writing a release
// takes a second or two.
const lockTimeout = time.Minute

// lock takes the exclusive lock of the layout: a flock on its directory, which
// the kernel drops when the process dies, however it dies.
func (l *Layout) lock() (unlock func(), err error) {
	dir, err := os.Open(l.dir)
	if err != nil {
		return nil, fmt.Errorf("locking image layout: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockTimeout)
	defer cancel()
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return func() { dir.Close() }, nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			dir.Close()
			return nil, fmt.Errorf("locking image layout %s: %w", l.dir, err)
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, fmt.Errorf("locking image layout %s: another process has been writing to it for %v", l.dir, lockTimeout)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
