package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tryVerb makes this program try everything, serveVerb a service, and limitVerb
// another program with few capabilities. By the name of catName it is what
// sluice doctor starts to have a process.
const (
	tryVerb   = "try"
	serveVerb = "serve"
	limitVerb = "limit"
	catName   = "cat"
)

// prepare makes an empty machine one that programs can run on. Then the program
// begins anew: a library has looked at /proc before it was there.
func prepare() error {
	for _, m := range []struct{ kind, dir string }{
		{"devtmpfs", "/dev"},
		{"proc", "/proc"},
		{"sysfs", "/sys"},
		{"tmpfs", "/tmp"},
		{"bpf", "/sys/fs/bpf"},
		{"cgroup2", "/sys/fs/cgroup"},
	} {
		if err := os.MkdirAll(m.dir, 0o755); err != nil {
			return fmt.Errorf("making a mount point: %w", err)
		}
		if err := unix.Mount(m.kind, m.dir, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	if err := os.Mkdir("/bin", 0o755); err != nil {
		return fmt.Errorf("making a folder for programs: %w", err)
	}
	if err := os.Symlink("/proc/1/exe", "/bin/"+catName); err != nil {
		return fmt.Errorf("making a program: %w", err)
	}
	err := unix.Exec("/proc/self/exe", []string{"init", tryVerb}, []string{"PATH=/bin"})
	return fmt.Errorf("beginning anew: %w", err)
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("making a socket: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("setting the loopback interface up: %w", err)
	}
	return nil
}
