package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// capabilities that the target local needs; CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON on older kernels.
var capabilities = []struct {
	name   string
	number int
}{
	{"CAP_SYS_ADMIN", unix.CAP_SYS_ADMIN},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN},
	{"CAP_SYS_PTRACE", unix.CAP_SYS_PTRACE},
	{"CAP_KILL", unix.CAP_KILL},
}

func tryPrivileges(context.Context, *bench) (string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return "", fmt.Errorf("reading the capabilities: %w", err)
	}
	var lacking []string
	for _, c := range capabilities {
		if data[c.number/32].Effective&(1<<(c.number%32)) == 0 {
			lacking = append(lacking, c.name)
		}
	}
	who := "user " + strconv.Itoa(os.Geteuid())
	if os.Geteuid() == 0 {
		who = "root"
	}
	if len(lacking) > 0 {
		return "", missingError{who + " without " + strings.Join(lacking, ", ")}
	}
	return who + " with all capabilities that are needed", nil
}

// tryCgroup makes a cgroup below the mount point and keeps it for the checks that follow.
func tryCgroup(_ context.Context, b *bench) (string, error) {
	found, err := mounts("cgroup2")
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", missingError{"no file system of type cgroup2 is mounted"}
	}
	dir, err := os.MkdirTemp(found[0], "sluice-doctor-")
	if err != nil {
		return "", fmt.Errorf("making a cgroup: %w", err)
	}
	b.cgroup = dir
	if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
		return "", fmt.Errorf("looking into a new cgroup: %w", err)
	}
	return "mounted at " + found[0] + ", writable", nil
}

// idle starts a process that waits until its standard input is closed. end closes it and waits.
func idle(ctx context.Context, attr *syscall.SysProcAttr) (cmd *exec.Cmd, stdin *os.File, end func(), err error) {
	cat, err := exec.LookPath("cat")
	if err != nil {
		return nil, nil, nil, err
	}
	stdin, writer, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	cmd = exec.CommandContext(ctx, cat)
	cmd.Stdin, cmd.SysProcAttr = stdin, attr
	if err := cmd.Start(); err != nil {
		return nil, nil, nil, errors.Join(err, stdin.Close(), writer.Close())
	}
	return cmd, stdin, func() {
		writer.Close()
		_ = cmd.Wait() // how it ended does not matter
		stdin.Close()
	}, nil
}

func tryCloneIntoCgroup(ctx context.Context, b *bench) (string, error) {
	if b.cgroup == "" {
		return "", dependsError{"cgroup v2"}
	}
	dir, err := os.Open(b.cgroup)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	cmd, _, end, err := idle(ctx, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())})
	if err != nil {
		return "", fmt.Errorf("starting a process in a cgroup: %w", err)
	}
	defer end()
	members, err := os.ReadFile(filepath.Join(b.cgroup, "cgroup.procs"))
	if err != nil {
		return "", err
	}
	if !slices.Contains(strings.Fields(string(members)), strconv.Itoa(cmd.Process.Pid)) {
		return "", errors.New("a process started in a cgroup is not in it")
	}
	return "a process starts inside its cgroup", nil
}

// tryPidfdGetfd takes a file from another process and looks whether it is the one.
func tryPidfdGetfd(ctx context.Context, _ *bench) (string, error) {
	cmd, stdin, end, err := idle(ctx, nil)
	if err != nil {
		return "", fmt.Errorf("starting a process: %w", err)
	}
	defer end()
	pidfd, err := unix.PidfdOpen(cmd.Process.Pid, 0)
	if err != nil {
		return "", fmt.Errorf("opening a process: %w", err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, 0, 0)
	if err != nil {
		return "", fmt.Errorf("taking a file of another process: %w", err)
	}
	taken := os.NewFile(uintptr(fd), "taken")
	defer taken.Close()
	theirs, err := taken.Stat()
	if err != nil {
		return "", err
	}
	ours, err := stdin.Stat()
	if err != nil {
		return "", err
	}
	if !os.SameFile(theirs, ours) {
		return "", errors.New("the file taken from another process is not the one that was asked for")
	}
	return "an open file was taken from another process", nil
}

func tryNetworkNamespace(context.Context, *bench) (what string, err error) {
	onOwnThread(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = fmt.Errorf("making a network namespace: %w", err)
			return
		}
		err = loopbackUp()
	})
	return "made, with a loopback interface", err
}

// loopbackUp switches on the loopback interface of the thread's network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("switching on the loopback interface: %w", err)
	}
	return nil
}
