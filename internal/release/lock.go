package release

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// LockedError says that another process writes to the ledger.
type LockedError struct {
	Path string
	PID  int // 0 when it has not yet said who it is
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("ledger %s is in use by another process", e.Path)
	}
	return fmt.Sprintf("ledger %s is in use by process %d", e.Path, e.PID)
}

// Hint tells how to go on.
func (e *LockedError) Hint() string {
	return "wait until the other rollout has ended, or choose another --out directory"
}

// lockFile locks path+".lock", which holds the owner's process id for the one
// who is refused. The kernel drops the lock with the process, so what the file
// says is only a name, never the lock itself; the file stays when the lock goes.
func lockFile(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("locking ledger: %w", err)
	}
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		err = lock.Truncate(0)
	}
	if err != nil {
		defer lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &LockedError{Path: path, PID: owner(lock)}
		}
		return nil, fmt.Errorf("locking ledger %s: %w", path, err)
	}
	_, _ = lock.WriteAt(strconv.AppendInt(nil, int64(os.Getpid()), 10), 0) // on a full disk the lock holds all the same
	return lock, nil
}

func owner(lock *os.File) int {
	raw := make([]byte, 20)
	n, _ := lock.ReadAt(raw, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw[:n])))
	return pid
}

func unlock(lock *os.File) error {
	return errors.Join(lock.Truncate(0), lock.Close())
}
