package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestFullDisk publishes until a disk of 256 KiB and some pages is full: the writer says so,
// leaves no half file, and what was published before is still complete.
func TestFullDisk(t *testing.T) {
	testenv.NeedRoot(t)
	text, err := json.Marshal(config(t, certificate(t, 1), ""))
	if err != nil {
		t.Fatal(err)
	}
	for pages := range testenv.Chaos(t, testenv.FullDisk, 3) {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "SLUICE_TEST_FULL_DISK="+t.TempDir(), fmt.Sprint("SLUICE_TEST_DISK_SIZE=", 256+4*pages), "SLUICE_TEST_CONFIG="+string(text))
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} // the disk goes with the process
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%d KiB: %v\n%s", 256+4*pages, err, out)
		}
	}
}

// fillDisk is the process of TestFullDisk.
func fillDisk(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+os.Getenv("SLUICE_TEST_DISK_SIZE")+"k"); err != nil {
		return err
	}
	l, err := OpenLayout(filepath.Join(dir, "oci"))
	if err != nil {
		return err
	}
	var c Config
	if err := json.Unmarshal([]byte(os.Getenv("SLUICE_TEST_CONFIG")), &c); err != nil {
		return err
	}
	published := 0
	for err == nil && published < 100 {
		c.Version = fmt.Sprintf("v1.%d.0", published)
		if _, err = publish(l, c); err == nil {
			published++
		}
	}
	if !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "writing image layout: ") {
		return fmt.Errorf("after %d releases: %w; want ENOSPC", published, err)
	}
	left, globErr := filepath.Glob(filepath.Join(l.dir, tempPrefix+"*"))
	tags, tagErr := l.Tags()
	if len(left) != 0 || published == 0 || len(tags) != published {
		return fmt.Errorf("%d releases, tags %v, left %v", published, tags, left)
	}
	return errors.Join(globErr, tagErr, l.Verify())
}
