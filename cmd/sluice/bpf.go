package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
)

// maxObject bounds an object that is read; maxSmall what comes with it.
const (
	maxObject = 16 << 20
	maxSmall  = 1 << 20
)

// bpfCommand is the group for eBPF objects. Alone it is the step of the pipeline
// of that name, as it was before it had commands.
func bpfCommand() *cobra.Command {
	cmd := stepCommand("bpf", "Build, check, sign, distribute and load eBPF objects")
	cmd.Long = `An eBPF object is compiled once, checked against rules and by a kernel's
verifier, signed, and distributed like an image. A running sluice-probe takes it
over without missing a request, and goes back to the last good one by itself.

Without a command below it, sluice bpf is a step of sluice run: it checks the
probe object of sluice.yaml and puts it into the release.`
	cmd.Example = `  sluice bpf build probe.bpf.c -I include       compile it, the same bytes every time
  sluice bpf check probe.bpf.o                  may it be loaded? and if not, why
  sluice bpf sign probe.bpf.o --key cosign.key
  sluice bpf push probe.bpf.o registry.example/probe:v1
  sluice bpf load registry.example/probe:v1 --key cosign.pub
  sluice bpf history`
	cmd.AddCommand(bpfBuildCommand(), bpfCheckCommand(), bpfSignCommand(), bpfVerifyCommand(), bpfPushCommand(), bpfPullCommand(),
		bpfLoadCommand(), bpfListCommand(), bpfSwapCommand(), bpfRollbackCommand(), bpfHistoryCommand())
	return cmd
}

// advised is an error with advice.
type advised struct {
	error
	advice string
}

func (e *advised) Unwrap() error { return e.error }

// Hint is the advice.
func (e *advised) Hint() string { return e.advice }

// judged is an error with an exit status and advice of its own.
type judged struct {
	error
	status int
	advice string
}

func (e *judged) Unwrap() error { return e.error }

// ExitCode is the status.
func (e *judged) ExitCode() int { return e.status }

// Hint is the advice; without one, that of the cause.
func (e *judged) Hint() string {
	if e.advice != "" {
		return e.advice
	}
	return hintOf(e.error)
}

// readFile reads a file that may not be larger than a limit.
func readFile(what, path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading %s: %w", what, err)
	case int64(len(raw)) > limit:
		return nil, fmt.Errorf("reading %s: %s has more than %d bytes", what, path, limit)
	case len(raw) == 0:
		return nil, fmt.Errorf("reading %s: %s is empty", what, path)
	}
	return raw, nil
}

// readObject reads an eBPF object and what it says of itself.
func readObject(path string) ([]byte, *bpf.Spec, error) {
	raw, err := readFile("eBPF object", path, maxObject)
	if err != nil {
		return nil, nil, err
	}
	spec, err := bpf.ReadSpec(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return raw, spec, nil
}

// bundleOf is where the signature of a file lies unless a flag says otherwise.
func bundleOf(path, flag string) string {
	if flag != "" {
		return flag
	}
	return path + ".sigstore.json"
}

// readBundle reads the signature of an object.
func readBundle(path string) ([]byte, error) {
	raw, err := readFile("signature", path, maxSmall)
	if errors.Is(err, os.ErrNotExist) {
		return nil, &advised{fmt.Errorf("the object is not signed: %w", err), "sign it (sluice bpf sign), or say where the signature is with --bundle"}
	}
	return raw, err
}

// replaceFile writes a file as a whole or not at all.
func replaceFile(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".sluice-*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close()); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// objectLine sums up an object in one line.
func objectLine(path string, s *bpf.Spec) string {
	return fmt.Sprintf("%s  %s  %s, %s", path, s.Digest, plural(len(s.Programs), "program"), plural(len(s.Maps), "map"))
}
