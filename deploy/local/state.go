package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// runDir holds a folder for each service on this machine.
const runDir = "/run/sluice"

// state is what the next run has to know, should this one be killed. It lives
// in memory (below /run): processes, control groups and pins end with a boot,
// and so does it.
type state struct {
	Out    string `json:"out"` // whose ledger the versions belong to
	Front  string `json:"front"`
	Stable *Arm   `json:"stable,omitempty"`
	Canary *Arm   `json:"canary,omitempty"`
}

func readState(dir string) (state, error) {
	var s state
	raw, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err != nil {
		return s, fmt.Errorf("reading the state of the local target: %w", err)
	}
	return s, nil
}

func (s state) write(dir string) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the state of the local target: %w", err)
	}
	tmp := filepath.Join(dir, "state.json.tmp")
	if err := os.WriteFile(tmp, raw, 0o600); err != nil {
		return fmt.Errorf("writing the state of the local target: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "state.json")); err != nil {
		return fmt.Errorf("writing the state of the local target: %w", err)
	}
	return nil
}

// lock keeps every other sluice away from the service. The kernel drops it with
// the process.
func lock(dir, name string) (*os.File, error) {
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of the local target: %w", err)
		}
		f, err := tryLock(filepath.Join(dir, "lock"), name)
		if err != nil {
			return nil, err
		}
		// Down removes the file: a lock on one that is there no more is worth
		// nothing.
		have, haveErr := f.Stat()
		want, wantErr := os.Stat(f.Name())
		if haveErr == nil && wantErr == nil && os.SameFile(have, want) {
			return f, nil
		}
		_ = f.Close()
	}
}

func tryLock(path, name string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("locking %s: %w", name, err)
		}
		pid := make([]byte, 16)
		n, _ := f.ReadAt(pid, 0)
		return nil, &LockedError{Name: name, PID: strings.TrimSpace(string(pid[:n]))}
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return f, nil
}
