package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a service that was started in the namespace of this thread.
type process struct {
	Service
	cmd     *exec.Cmd
	began   time.Time
	ended   chan struct{} // closed after the process was reaped
	said    words
	home    string
	network string // identity of the namespace, as /proc shows it
}

// start must be called on the thread that is in the namespace, and that has to
// live as long as the process: the death signal follows the thread.
func start(s Service) (p *process, err error) {
	p = &process{Service: s, ended: make(chan struct{})}
	if p.network, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("naming the network namespace: %w", err)
	}
	if p.home, err = newHome(); err != nil {
		return nil, fmt.Errorf("creating its directory: %w", err)
	}
	argv := append(append(append([]string{}, s.Runner...), s.Path), s.Args...)
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Dir = s.Dir
	if s.Dir == "" {
		p.cmd.Dir = p.home
	}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.home, "TMPDIR=" + p.home}, s.Env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.said, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.WaitDelay = time.Second
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		os.RemoveAll(p.home)
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // the state says it all
		close(p.ended)
	}()
	return p, nil
}

// newHome creates a directory for one service, and removes those that killed
// processes have left.
func newHome() (string, error) {
	const prefix = "sluice-sandbox-"
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			os.RemoveAll(dir)
		}
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
}

// firstAnswer looks and asks until the service is healthy, ends, or is late.
func (p *process) firstAnswer(ctx context.Context) (Answer, error) {
	late := time.After(p.Start)
	why := "it listens on no TCP port"
	if p.Port != 0 {
		why = fmt.Sprintf("it does not listen on port %d", p.Port)
	}
	asked := false
	for pause := time.Millisecond; ; pause = min(pause+pause/8, 20*time.Millisecond) {
		answer, seen, err := p.look(ctx)
		if err != nil || answer.Port != 0 {
			return answer, err
		}
		// An attempt that the deadline cut short says less than the one before.
		if seen != "" && (!asked || time.Since(p.began) < p.Start) {
			why, asked = seen, true
		}
		select {
		case <-ctx.Done():
			return Answer{}, fmt.Errorf("trying %s: %w", p.Path, ctx.Err())
		case <-p.ended:
			return Answer{}, &ExitError{p.Path, p.cmd.ProcessState.String(), p.said.last()}
		case <-late:
			return Answer{}, &NotReadyError{p.Path, p.Start, why, p.said.last()}
		case <-time.After(pause):
		}
	}
}

// look makes one attempt: a good answer has a Port; otherwise seen says what
// was wrong, if the service listens at all.
func (p *process) look(ctx context.Context) (answer Answer, seen string, err error) {
	ctx, cancel := context.WithDeadline(ctx, p.began.Add(p.Start))
	defer cancel()
	all, err := listeners(p.cmd.Process.Pid)
	if err != nil {
		return Answer{}, "", nil //nolint:nilerr // the process has ended; the caller is about to see that
	}
	for _, addr := range choose(all, p.Port) {
		status, body, err := ask(ctx, addr, p.Health)
		switch {
		case err != nil:
			seen = fmt.Sprintf("asking port %d: %v", addr.Port(), err)
			continue
		case p.Health != "" && !good(status):
			seen = fmt.Sprintf("GET %s on port %d: %d", p.Health, addr.Port(), status)
			continue
		}
		answer = Answer{Status: status, Body: body, Port: int(addr.Port()), Startup: time.Since(p.began)}
		answer.PeakRSSBytes = peakRSS(p.cmd.Process.Pid)
		return answer, "", p.onlyPort()
	}
	return Answer{}, seen, nil
}

// onlyPort demands that a service whose port nobody named has only one.
func (p *process) onlyPort() error {
	if p.Port != 0 {
		return nil
	}
	all, err := listeners(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	if list := ports(all); len(list) > 1 {
		return &PortsError{p.Path, list}
	}
	return nil
}

// peakRSS returns VmHWM of a process in bytes, 0 if it is gone.
func peakRSS(pid int) int64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// kill ends the process group, everything else in the namespace, and waits.
func (p *process) kill() {
	select {
	case <-p.ended:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	for range 10 { // a process may fork while we look
		if !killNamespace(p.network) {
			break
		}
		time.Sleep(time.Millisecond)
	}
	<-p.ended
	os.RemoveAll(p.home)
}

// killNamespace kills what has left the process group but not the network
// namespace, and says if there was anything.
func killNamespace(network string) bool {
	dir, err := os.Open("/proc")
	if err != nil {
		return false
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	found := false
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() || !inNamespace(pid, network) {
			continue
		}
		// The descriptor holds on to this very process while we look again.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if inNamespace(pid, network) {
			found = true
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
	}
	return found
}

func inNamespace(pid int, network string) bool {
	got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && got == network
}
