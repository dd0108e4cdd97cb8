package local

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf/bind"
	"github.com/sluice-cd/sluice/bpf/split"
	"github.com/sluice-cd/sluice/internal/cgroup"
)

// Arm is one running version: a process in a control group of its own, whose
// listening socket is in a slot of the splitter.
type Arm struct {
	Service
	Slot   split.Slot     `json:"slot"`
	PID    int            `json:"pid"`
	Began  string         `json:"began"` // start time of the process in clock ticks since boot: with the PID its identity
	Cgroup cgroup.Group   `json:"cgroup"`
	Own    netip.AddrPort `json:"own"` // where it really listens

	gone  chan struct{}
	quote int64 // size of the log when it started: its last words come after
}

// Gone is closed when the process has ended.
func (a *Arm) Gone() <-chan struct{} { return a.gone }

// Ask makes one request to the version on its own port, where no client is, on
// a connection of its own.
func (a *Arm) Ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var err error
	for _, addr := range reachable(a.Own) {
		if _, err = get(ctx, addr, cmp.Or(a.Health, "/")); err == nil {
			return nil
		}
	}
	return err
}

// launch starts a version in a new control group. Its fixed ports are moved out
// of the way by the kernel, so that versions live side by side. The returned
// mover has to stay open until the socket has been found.
func launch(s Service, group cgroup.Group) (*Arm, *bind.Mover, error) {
	if err := checkDigest(s.Binary, s.SHA256); err != nil {
		return nil, nil, err
	}
	mover, err := bind.Attach(string(group))
	if err != nil {
		return nil, nil, fmt.Errorf("preparing control group %s: %w", group, err)
	}
	var quote int64
	if info, err := os.Stat(s.Log); err == nil {
		quote = info.Size()
	}
	pid, err := spawn(s, group)
	if err != nil {
		_ = mover.Close()
		return nil, nil, err
	}
	began, err := startTime(pid)
	if err != nil {
		_ = mover.Close()
		return nil, nil, &StartError{Version: s.Version, Reason: "its process ended at once", Log: tail(s.Log, quote), Err: err}
	}
	arm := &Arm{Service: s, PID: pid, Began: began, Cgroup: group, quote: quote}
	if err := arm.watch(); err != nil {
		_ = mover.Close()
		return nil, nil, err
	}
	return arm, mover, nil
}

// spawn starts the process in the group, in a session of its own: it outlives
// sluice and does not hear a Ctrl-C that is meant for it.
func spawn(s Service, group cgroup.Group) (pid int, err error) {
	if err := os.MkdirAll(filepath.Dir(s.Log), 0o755); err != nil {
		return 0, fmt.Errorf("opening the log of %s: %w", s.Version, err)
	}
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, fmt.Errorf("opening the log of %s: %w", s.Version, err)
	}
	defer log.Close()
	dir, err := os.Open(string(group))
	if err != nil {
		return 0, fmt.Errorf("opening control group: %w", err)
	}
	defer dir.Close()
	cmd := exec.Command(s.Binary, s.Args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.Dir, log, log
	cmd.Env = environment(s.Env)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		return 0, &StartError{Version: s.Version, Reason: err.Error(), Err: err}
	}
	go func() { _ = cmd.Wait() }() // so that no zombie stays while we live
	return cmd.Process.Pid, nil
}

// environment is what a service sees: the few variables that say where it is,
// and its own. The rest of the caller's environment, passphrases among it, is
// not passed on.
func environment(own map[string]string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	for k, v := range own {
		env = append(env, k+"="+v)
	}
	return env
}

// watch closes gone when the process ends, whoever its parent is.
func (a *Arm) watch() error {
	a.gone = make(chan struct{})
	fd, err := unix.PidfdOpen(a.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		close(a.gone)
		return nil
	}
	if err != nil {
		return fmt.Errorf("watching process %d: %w", a.PID, err)
	}
	go func() {
		defer close(a.gone)
		defer unix.Close(fd)
		for {
			// POLLIN on a pidfd: the process has ended (pidfd_open(2)).
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
			if n > 0 || (err != nil && !errors.Is(err, unix.EINTR)) {
				return
			}
		}
	}()
	return nil
}

// alive reports whether the process that was recorded still runs, with the
// binary that was recorded.
func (a *Arm) alive() (bool, error) {
	began, err := startTime(a.PID)
	if err != nil || began != a.Began {
		return false, nil
	}
	exe := fmt.Sprintf("/proc/%d/exe", a.PID)
	if err := checkDigest(exe, a.SHA256); err != nil {
		return false, fmt.Errorf("process %d is not %s as it was released: %w", a.PID, a.Version, err)
	}
	return true, nil
}

// stop ends the version: it is asked first, and ended after its Stop time. The
// group is removed.
func (a *Arm) stop(ctx context.Context) error {
	a.terminate()
	select {
	case <-a.gone:
	case <-time.After(a.Stop):
	case <-ctx.Done():
	}
	killCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return a.Cgroup.Remove(killCtx)
}

// terminate asks the process to end. The number of a process that has ended may
// belong to another by now: that one is not told.
func (a *Arm) terminate() {
	fd, err := unix.PidfdOpen(a.PID, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if began, err := startTime(a.PID); err == nil && began == a.Began {
		_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
	}
}

// quiet is how long no connection may be seen before a version counts as
// drained: the handshake of one that was given to it last takes a round trip.
const quiet = 300 * time.Millisecond

// drain waits until the version has had no connection on the port for a while,
// or for limit. It returns how many were left.
func (a *Arm) drain(ctx context.Context, port uint16, limit time.Duration) (int, error) {
	deadline := time.After(limit)
	for idle := time.Now(); ; {
		n, err := connections(a.Cgroup, port)
		if err != nil {
			return 0, err
		}
		if n > 0 {
			idle = time.Now()
		} else if time.Since(idle) >= quiet {
			return 0, nil
		}
		select {
		case <-a.gone:
			return 0, nil
		case <-ctx.Done():
			return n, nil
		case <-deadline:
			return n, nil
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startTime is field 22 of /proc/PID/stat (proc(5)).
func startTime(pid int) (string, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %d has ended", pid)
	}
	return fields[19], nil
}

func checkDigest(path, want string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("checking binary: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("checking binary %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return &DigestError{Path: path, Want: want, Got: got}
	}
	return nil
}

// DigestError means that a binary is not the one that was released.
type DigestError struct{ Path, Want, Got string }

func (e *DigestError) Error() string {
	return fmt.Sprintf("%s has sha256 %s, released was %s", e.Path, e.Got, e.Want)
}

// tail returns the last lines of what a file holds after an offset.
func tail(path string, from int64) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	const most = 4096
	if info, err := f.Stat(); err == nil {
		from = max(from, info.Size()-most)
	}
	_, _ = f.Seek(from, io.SeekStart)
	raw, _ := io.ReadAll(io.LimitReader(f, most))
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return nil
	}
	return lines[max(0, len(lines)-8):]
}
