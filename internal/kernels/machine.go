package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

const emulator = "qemu-system-x86_64"

// processor has everything but page tables of five levels, which are slow to
// emulate. Linux 7 needs cmpxchg16b to allocate socket storage in a program.
const processor = "max,la57=off"

// report is what the program in a machine told.
type report struct {
	kernel   string // uname -r
	outcomes []outcome.Outcome
}

// machine is a virtual one that runs one program and ends.
type machine struct {
	kernel    string    // file
	initramfs []byte    // its /init is the program
	console   io.Writer // may be nil
	limit     time.Duration
}

// ConsoleError means that a machine ended, or was ended, before its program was
// done.
type ConsoleError struct {
	Err  error
	Last []string // lines of the console
}

func (e *ConsoleError) Error() string {
	return fmt.Sprintf("the virtual machine did not finish: %v; its last words:\n    %s", e.Err, strings.Join(e.Last, "\n    "))
}

func (e *ConsoleError) Unwrap() error { return e.Err }

// errSilent: the program in the machine ended too early.
var errSilent = errors.New("its program ended before it was done")

// run boots the machine and collects what its program tells. Nothing of it is
// left when run returns: the initramfs is a file in memory, and the emulator dies
// with this process.
func (m machine) run(ctx context.Context) (report, error) {
	limited, cancel := context.WithTimeoutCause(ctx, m.limit, fmt.Errorf("not done after %v", m.limit))
	defer cancel()
	initramfs, err := memoryFile("initramfs", m.initramfs)
	if err != nil {
		return report{}, err
	}
	defer initramfs.Close()
	results, w, err := os.Pipe()
	if err != nil {
		return report{}, fmt.Errorf("making a pipe: %w", err)
	}
	defer results.Close()

	console := &tail{to: m.console}
	cmd := exec.CommandContext(limited, emulator,
		"-accel", "tcg,thread=multi", "-cpu", processor, "-smp", "2", "-m", "512",
		"-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", m.kernel, "-initrd", "/dev/fd/3",
		"-append", "console=ttyS0 panic=-1 random.trust_cpu=on",
		"-serial", "stdio", "-serial", "file:/dev/fd/4")
	cmd.ExtraFiles = []*os.File{initramfs, w}
	cmd.Stdout, cmd.Stderr = console, console
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return report{}, fmt.Errorf("starting %s: %w", emulator, err)
	}
	r, done, readErr := read(results)
	err = errors.Join(readErr, cmd.Wait())
	switch {
	case ctx.Err() != nil:
		return r, context.Cause(ctx) // somebody wants an end
	case limited.Err() != nil:
		return r, &ConsoleError{Err: context.Cause(limited), Last: console.last()}
	case err != nil:
		return r, &ConsoleError{Err: err, Last: console.last()}
	case !done:
		return r, &ConsoleError{Err: errSilent, Last: console.last()}
	}
	return r, nil
}

// read collects the lines of a machine until its end.
func read(from io.Reader) (r report, done bool, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var l outcome.Line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return r, false, fmt.Errorf("reading %q from the virtual machine: %w", lines.Text(), err)
		}
		if l.Outcome != nil {
			r.outcomes = append(r.outcomes, *l.Outcome)
		}
		if l.Kernel != "" {
			r.kernel = l.Kernel
		}
		done = done || l.Done
	}
	return r, done, lines.Err()
}

// memoryFile is a file without a name.
func memoryFile(name string, data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making a file in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(fmt.Errorf("writing a file in memory: %w", err), f.Close())
	}
	return f, nil
}

// tail keeps the end of what is written and passes all of it on.
type tail struct {
	to  io.Writer
	end []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const enough = 4096
	t.end = append(t.end, p...)
	if over := len(t.end) - enough; over > 0 {
		t.end = t.end[over:]
	}
	if t.to != nil {
		return t.to.Write(p)
	}
	return len(p), nil
}

// last returns the last lines.
func (t *tail) last() []string {
	const enough = 15
	lines := strings.Split(strings.ReplaceAll(string(bytes.TrimSpace(t.end)), "\r", ""), "\n")
	return lines[max(0, len(lines)-enough):]
}
