// Command guest is the first and only program of a virtual machine: it tries on
// the machine's kernel what Sluice needs of one, with the real objects and real
// connections, and tells what came of it over the second serial port. Then the
// machine is switched off.
//
// It is started by the kernels command as /init and is of no other use.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

// results is where outcomes are told; the first serial port is the console.
const results = "/dev/ttyS1"

func main() {
	verb := ""
	if len(os.Args) > 1 {
		verb = os.Args[1]
	}
	switch {
	case filepath.Base(os.Args[0]) == catName:
		_, _ = io.Copy(os.Stdout, os.Stdin)
		return
	case verb == serveVerb:
		fmt.Println(serve(os.Args[2:]))
		os.Exit(1)
	case verb == limitVerb:
		fmt.Println(limit(os.Args[2:]))
		os.Exit(1)
	case os.Getpid() != 1:
		fmt.Fprintln(os.Stderr, "guest: this is the init of a virtual machine; run the kernels command")
		os.Exit(2)
	}
	var err error
	if verb == tryVerb {
		err = try()
	} else {
		err = prepare()
	}
	fmt.Println("guest: the end:", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

// try tries everything and tells it.
func try() error {
	port, err := os.OpenFile(results, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("opening the port for results: %w", err)
	}
	defer port.Close()
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return fmt.Errorf("asking for the kernel's version: %w", err)
	}
	if err := outcome.Write(port, outcome.Line{Kernel: string(kernel[:len(kernel)-1])}); err != nil {
		return err
	}
	if err := tryAll(port); err != nil {
		return err
	}
	return outcome.Write(port, outcome.Line{Done: true})
}

// trial is one capability.
type trial struct {
	name  string
	needs string // the oldest kernel that is promised to have it
	try   func(context.Context) error
}

// errNotTried means that something before the trial does not work.
var errNotTried = errors.New("not tried")

// tryAll tries everything, one after the other.
func tryAll(port io.Writer) error {
	trials, done, err := allTrials()
	if err != nil {
		return err
	}
	defer done()
	for _, t := range trials {
		o := t.do()
		if err := outcome.Write(port, outcome.Line{Outcome: &o}); err != nil {
			return err
		}
	}
	return nil
}

// do tries one capability, for a limited time.
func (t trial) do() outcome.Outcome {
	const limit = 30 * time.Second
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	begin := time.Now()
	err := t.survive(ctx)
	fmt.Printf("%s: %v (%v)\n", t.name, err, time.Since(begin).Round(time.Millisecond))
	o := outcome.Outcome{Name: t.name, Needs: t.needs}
	if err != nil {
		o.Error, o.Log, o.After = err.Error(), verifierLog(err), errors.Is(err, errNotTried)
	}
	return o
}

// survive tries, and makes an error of a panic: the kernel panics, too, when its
// first program ends, and nothing would be told.
func (t trial) survive(ctx context.Context) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return t.try(ctx)
}

// allTrials returns all trials and what ends what they share. If there are
// objects to load, they are all.
func allTrials() ([]trial, func(), error) {
	if objects, err := objectTrials(); err != nil || len(objects) > 0 {
		return objects, func() {}, err
	}
	probe, done, err := probeTrials()
	if err != nil {
		return nil, nil, err
	}
	return slices.Concat(doctorTrials(), probe, daemonTrials(), splitTrials(), bindTrials()), done, nil
}

// promised is the oldest kernel that an object says it is meant for.
func promised(object []byte) (string, error) {
	spec, err := bpf.ReadSpec(object)
	if err != nil {
		return "", err
	}
	if spec.MinKernel == "" {
		return "", errors.New("an object does not say which kernel it needs")
	}
	return spec.MinKernel, nil
}

// verifierLog is the end of the verifier's log.
func verifierLog(err error) []string {
	const enough = 12
	var refused *ebpf.VerifierError
	if !errors.As(err, &refused) {
		return nil
	}
	return refused.Log[max(0, len(refused.Log)-enough):]
}
