// Command demo ships releases of the sample service with the sluice command,
// the way a person would, while an open-loop load generator keeps asking the
// front address. It prints what happens and, at the end, a table.
//
// Nothing is scripted: the verdicts are the gate's. With -healthy no fault is
// injected, and every release is promoted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &demo{}
	flag.StringVar(&d.sluice, "sluice", "bin/sluice", "the command to drive")
	flag.StringVar(&d.file, "f", "sluice.yaml", "configuration of the sample service")
	flag.StringVar(&d.out, "out", "out", "folder for everything that is made")
	flag.IntVar(&d.rate, "rate", 400, "requests a second")
	flag.BoolVar(&d.healthy, "healthy", false, "inject no faults")
	flag.Parse()
	if err := d.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		os.Exit(1)
	}
}

type demo struct {
	sluice, file, out string
	rate              int
	healthy           bool

	front   string
	begin   time.Time
	clients *clients
	results []result
}

// run ships the releases. Whatever happens, the service is stopped at the end
// and nothing of it is left on the machine.
func (d *demo) run(ctx context.Context) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo loads eBPF programs and needs root: sudo make demo")
	}
	cfg, err := config.Load(d.file)
	if err != nil {
		return err
	}
	d.front, d.begin = cfg.Deploy.Local.Listen.String(), time.Now()
	if err := d.fresh(ctx); err != nil {
		return err
	}
	defer func() {
		d.clients.stop()
		err = errors.Join(err, d.command(context.WithoutCancel(ctx), "down"))
	}()
	for _, r := range releases(cfg.Name) {
		if err := d.ship(ctx, r); err != nil {
			return err
		}
	}
	return d.judge()
}

// fresh ends what an earlier demo left and begins a new history. What was built
// before is kept: it is checked and used again.
func (d *demo) fresh(ctx context.Context) error {
	if err := d.command(ctx, "down"); err != nil {
		return err
	}
	for _, name := range []string{"ledger.jsonl", "rollouts", "logs"} {
		if err := os.RemoveAll(filepath.Join(d.out, name)); err != nil {
			return fmt.Errorf("beginning a new history: %w", err)
		}
	}
	return nil
}

// command runs sluice with the demo's configuration.
func (d *demo) command(ctx context.Context, verb string, args ...string) error {
	cmd := exec.CommandContext(ctx, d.sluice, append([]string{verb, "-f", d.file, "--out", d.out}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("sluice %s: %w", verb, err)
	}
	return nil
}

// chapter prints a headline with the time since the start.
func (d *demo) chapter(format string, args ...any) {
	since := time.Since(d.begin).Round(time.Second)
	fmt.Printf("\n[%02d:%02d] %s\n", int(since.Minutes()), int(since.Seconds())%60, fmt.Sprintf(format, args...))
}
