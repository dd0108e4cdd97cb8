// Command sluice-probe measures every request that the services of a machine
// answer, with an eBPF program whose signature it has verified, and tells what
// it has counted: to the gate, to Prometheus, to an OpenTelemetry collector.
//
// It is the one privileged part of Sluice, so it links as little as it can: a
// test holds it to a list of modules.
//
// Exit status: 0 ended as it was asked to, 1 something is wrong with the machine
// or the object, 2 something is wrong with the flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sluice-cd/sluice/internal/agent"
)

func main() {
	if agent.SelfTestChild() {
		return // this process was started to be measured
	}
	os.Exit(run(os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// Exit statuses.
const (
	exitWrong = 1
	exitUsage = 2
)

// run is main without the exit.
func run(args []string, env func(string) (string, bool), stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command(ctx, args, env, stdout, stderr)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp):
		return 0
	}
	fmt.Fprintf(stderr, "sluice-probe: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "sluice-probe: hint: %s\n", hint)
	}
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitWrong
}

func command(ctx context.Context, args []string, env func(string) (string, bool), stdout, stderr io.Writer) error {
	o, err := parse(args, env, stdout)
	if err != nil {
		return err
	}
	if o.version {
		fmt.Fprintf(stdout, "sluice-probe %s\nbuilt-in object %s\n", version(), agent.BuiltIn().Digest())
		return nil
	}
	if err := o.resolve(); err != nil {
		return err
	}
	if o.clean {
		return clean(o, stdout)
	}
	cfg, err := o.config(stderr)
	if err != nil {
		return err
	}
	if cfg.History != nil {
		defer cfg.History.Close()
	}
	limitMemory(cfg.Workloads, env)
	return agent.Run(ctx, cfg)
}
