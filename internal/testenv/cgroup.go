package testenv

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// CgroupRoot is where cgroup v2 is mounted, from /proc/mounts: on hybrid
// machines it is not /sys/fs/cgroup.
func CgroupRoot(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		missing(t, "needs /proc/mounts: %v", err)
	}
	root := cgroup2Mount(string(mounts))
	if root == "" {
		missing(t, "needs cgroup v2 mounted")
	}
	return root
}

// cgroup2Mount is the first mount point of type cgroup2 in the text of
// /proc/mounts, "" if there is none.
func cgroup2Mount(mounts string) string {
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); len(f) >= 3 && f[2] == "cgroup2" {
			return unescape(f[1])
		}
	}
	return ""
}

// unescape undoes the octal escapes that the kernel writes for blanks.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// TempCgroup makes a cgroup of the test's own and returns its directory. When
// the test ends, the processes still in it are killed and it is removed with
// the cgroups below it. It needs root.
func TempCgroup(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	dir, err := os.MkdirTemp(CgroupRoot(t), "sluice-test-")
	if err != nil {
		missing(t, "needs a writable cgroup v2: %v", err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(dir, 5*time.Second); err != nil {
			t.Errorf("removing cgroup %s: %v", dir, err)
		}
	})
	return dir
}

// removeCgroup kills what runs in dir and below and removes it, children
// first. Killed processes leave a cgroup only some time later, hence limit.
func removeCgroup(dir string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		err := tryRemoveCgroup(dir)
		if err == nil || !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func tryRemoveCgroup(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, dir := range slices.Backward(dirs) {
		killMembers(dir)
		if rmErr := os.Remove(dir); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = rmErr
		}
	}
	return err
}

// killMembers sends SIGKILL to every process of the cgroup, one by one, since
// cgroup.kill exists only from Linux 5.14 on.
func killMembers(dir string) {
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return
	}
	for field := range strings.FieldsSeq(string(procs)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
