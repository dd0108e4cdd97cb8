package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal FILE PROGRAM ARG... runs a program that has to succeed and whose stderr
// is a terminal. What it writes there goes to FILE: return as ⏎, escape as ␛.
func terminal(ts *testscript.TestScript, _ bool, args []string) {
	ours, theirs, err := openTerminal()
	ts.Check(err)
	program := ts.Getenv("SLUICE")
	if args[1] != "sluice" {
		program, err = exec.LookPath(args[1])
		ts.Check(err)
	}
	cmd := exec.Command(program, args[2:]...)
	cmd.Args[0] = args[1] // the test binary is sluice by that name
	cmd.Dir, cmd.Stderr = ts.MkAbs("."), theirs
	for _, name := range []string{"PATH", "HOME", "GOCACHE", "GOPROXY", "GOTOOLCHAIN", "GOCOVERDIR", "TMPDIR", "TERM", "NO_COLOR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	ts.Check(cmd.Start())
	ts.Check(theirs.Close())
	var shown bytes.Buffer
	if _, err := io.Copy(&shown, ours); !errors.Is(err, syscall.EIO) { // which is how the last one to close a terminal shows
		ts.Check(err)
	}
	ts.Check(ours.Close())
	text := strings.NewReplacer("\r\n", "\n", "\r", "⏎", "\x1b", "␛").Replace(shown.String())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o644))
	if err := cmd.Wait(); err != nil {
		ts.Fatalf("%s: %v\n%s", filepath.Base(program), err, text)
	}
}

// openTerminal makes a terminal that nobody looks at.
func openTerminal() (ours, theirs *os.File, err error) {
	if ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, err
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	return ours, theirs, err
}
