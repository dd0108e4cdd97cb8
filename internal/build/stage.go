package build

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The staging directory lies in OutDir, so that publishing is a rename, and
// carries our process id, so that a later run can tell one that was left by a
// killed process from one in use.
const stagePrefix = ".build-"

// newStage creates a staging directory and removes those of dead processes.
func newStage(outDir string) (string, error) {
	if outDir == "" {
		return "", &OptionError{"OutDir", "", "a directory"}
	}
	outDir, err := filepath.Abs(outDir)
	if err != nil {
		return "", fmt.Errorf("creating the output directory: %w", err)
	}
	if err := os.MkdirAll(outDir, 0o755); err != nil {
		return "", fmt.Errorf("creating the output directory: %w", err)
	}
	left, _ := filepath.Glob(filepath.Join(outDir, stagePrefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), stagePrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && !alive(pid) {
			removeAll(dir)
		}
	}
	stage, err := os.MkdirTemp(outDir, fmt.Sprintf("%s%d-", stagePrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("creating the output directory: %w", err)
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
