package bpf

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// MountedBPFFS returns where the BPF file system is mounted, in which links and
// maps outlive the process that made them. It is mounted at its usual place if
// it is not yet.
func MountedBPFFS() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", fmt.Errorf("looking for the BPF file system: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "bpf" {
			return fields[1], nil
		}
	}
	const usual = "/sys/fs/bpf"
	if err := unix.Mount("bpf", usual, "bpf", 0, "mode=700"); err != nil {
		return "", fmt.Errorf("mounting the BPF file system at %s: %w", usual, err)
	}
	return usual, nil
}
