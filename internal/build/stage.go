package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A staging directory carries our process id, so that a later run can tell one
// that was left by a killed process from one in use. The one for results lies
// in OutDir, where publishing is a rename.
const (
	stagePrefix = ".build-"
	copyPrefix  = "sluice-verify-"
)

// newStage creates a staging directory and removes those of dead processes.
func newStage(parent, prefix string) (string, error) {
	parent, err := filepath.Abs(parent)
	if err != nil {
		return "", fmt.Errorf("creating a directory to build in: %w", err)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return "", fmt.Errorf("creating a directory to build in: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(parent, prefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && !alive(pid) {
			removeAll(dir)
		}
	}
	stage, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("creating a directory to build in: %w", err)
	}
	return stage, nil
}

// removeAll removes a staging directory. Tools of a killed go tool may still
// be writing there for a moment.
func removeAll(dir string) {
	for range 20 {
		if os.RemoveAll(dir) == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
