package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/argocd/drift"
)

func driftCommand() *cobra.Command {
	var o operator
	var git string
	var watch bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use: "drift", Short: "Compare git, Argo CD, the cluster and the probes", Args: cobra.NoArgs,
		Long: `Drift compares what git asks for, what Argo CD sees, what is in the cluster (and
what the ledger says should be), and what the probes have loaded. It changes
nothing. While a sync is under way what it moves is not compared.

The exit status is 0 if all agree, 1 if something differs, and 4 if nothing is
known to differ but evidence is missing: a probe that does not answer, a
permission that lacks. With --watch every difference is printed when it appears
and when it is mended, with the time that took, until interrupted; the exit
status is then that of what is still open.`,
		Example: `  sluice-argo drift -f sluice.yaml
  sluice-argo drift -o json | jq '.differences[] | select(.kind == "drift")'
  sluice-argo drift --watch --interval 2s`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := asJSON(o.format)
			if err != nil {
				return err
			}
			if interval < time.Second {
				return fmt.Errorf("--interval %v is less than 1s", interval)
			}
			s, cfg, err := o.open()
			if err != nil {
				return err
			}
			s.Git = git
			r, err := drift.NewReader(s, cfg)
			if err != nil {
				return err
			}
			if watch {
				return watchDrift(cmd.Context(), r.Read, s.Config.Name, interval, asJSON, cmd.OutOrStdout())
			}
			return lookOnce(cmd.Context(), r.Read, asJSON, cmd.OutOrStdout())
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&git, "git-credentials", "", "folder with username and password of the git repository")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on looking, and time how long differences last")
	cmd.Flags().DurationVar(&interval, "interval", 2*time.Second, "between two looks of --watch")
	return cmd
}

func lookOnce(ctx context.Context, read func(context.Context) drift.View, asJSON bool, out io.Writer) error {
	report := drift.NewReport(read(ctx))
	if err := ctx.Err(); err != nil {
		return err // what is missing then is our own fault
	}
	if asJSON {
		if err := printJSON(out, report); err != nil {
			return err
		}
		return report.Err()
	}
	fmt.Fprint(out, report.Text())
	return report.Err()
}

// watchDrift looks again and again until ctx ends. Every change is one line, and
// so is the summary.
func watchDrift(ctx context.Context, read func(context.Context) drift.View, service string, interval time.Duration, asJSON bool, out io.Writer) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	print := func(v fmt.Stringer) error {
		if asJSON {
			return enc.Encode(v)
		}
		_, err := fmt.Fprintln(out, v)
		return err
	}
	var w drift.Watch
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		v := read(ctx)
		if ctx.Err() == nil { // else a view that was cut short
			for _, c := range w.Look(v) {
				if err := print(c); err != nil {
					return err
				}
			}
		}
		select {
		case <-ctx.Done():
			s := w.Summary()
			if err := print(s); err != nil {
				return err
			}
			if s.Looks == 0 {
				return ctx.Err()
			}
			return s.Err(service)
		case <-tick.C:
		}
	}
}
