package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// BusyError means that another process holds a folder of pins.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("what is pinned at %s is held by another process", e.Dir)
}

// Hint says what to do about it.
func (e *BusyError) Hint() string { return "stop the other one, or pin in another folder" }

// OpenPins makes a folder for pins, if there is none yet, and holds it until
// Close. The error is a *BusyError if another process has it.
func OpenPins(dir string) (*Pins, error) {
	if err := onBPFFS(dir); err != nil {
		return nil, err
	}
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of pins: %w", err)
		}
		lock, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last holder has just removed it
		}
		if err != nil {
			return nil, fmt.Errorf("opening the folder of pins: %w", err)
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && still(dir, lock) {
			return &Pins{dir: dir, lock: lock, files: map[string]uint64{}}, nil
		}
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &BusyError{Dir: dir}
		}
		if err != nil {
			return nil, fmt.Errorf("locking the folder of pins: %w", err)
		}
	}
}

// onBPFFS checks that a folder is, or will be, on a BPF file system.
func onBPFFS(dir string) error {
	var system unix.Statfs_t
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &system)
		if errors.Is(err, unix.ENOENT) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for a BPF file system at %s: %w", at, err)
		}
		if system.Type != unix.BPF_FS_MAGIC {
			return fmt.Errorf("pinning at %s: %s is not on a BPF file system", dir, at)
		}
		return nil
	}
}

// still reports whether a path leads to an open file.
func still(path string, f *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(there, open)
}
