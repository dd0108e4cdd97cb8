package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/pipeline"
)

func rollbackCommand() *cobra.Command {
	var o options
	var to string
	var dryRun bool
	cmd := &cobra.Command{
		Use: "rollback", Short: "Go back to the version before, or to a named one", Args: cobra.NoArgs,
		Long: `Rollback starts the version that served before (or --to one that was promoted
once), verifies it like any release, gives it all new connections, and drains
and ends the version that serves now. The ledger records who took back what.
In a cluster (deploy.target: kubernetes) it is sluice-argo rollback.`,
		Example: `  sluice rollback
  sluice rollback --to v1.1.0`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			cfg, out, err := o.config()
			if err != nil {
				return err
			}
			if done, err := inCluster(cmd, cfg, rollbackFlags(o, to, dryRun)...); done {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			j := pipeline.Job{Config: cfg, Out: out, Note: p.noting()}
			if dryRun {
				from, target, err := pipeline.RollbackTarget(j, to)
				if err == nil {
					fmt.Fprintf(cmd.OutOrStdout(), "would go back from %s to %s\n", from, target)
				}
				return err
			}
			rec, err := pipeline.Rollback(cmd.Context(), j, to, p.event)
			told := recorded(rec, p.Events)
			if err != nil {
				told.Error, told.said = err.Error(), "rollback: failed"
			}
			if err = errors.Join(err, publishOutcome(actions.New(os.Getenv, os.Stderr), cfg.Name, told)); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), rec)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s rolled back, %s serves again\n", rec.Name, rec.Version, rec.Previous)
			return nil
		},
	}
	o.addFile(cmd)
	o.addFormat(cmd)
	o.addKey(cmd)
	cmd.Flags().StringVar(&to, "to", "", "version to go back to (default: the one that served before)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// rollbackFlags are the same for sluice-argo. It goes back to the version before
// only: which commit had an older one, git knows better.
func rollbackFlags(o options, to string, dryRun bool) []string {
	flags := []string{"--file", o.file, "--output", o.format}
	if to != "" {
		flags = append(flags, "--to", to)
	}
	if dryRun {
		flags = append(flags, "--dry-run")
	}
	return flags
}

func downCommand() *cobra.Command {
	var o options
	var dryRun bool
	cmd := &cobra.Command{
		Use: "down", Short: "Stop the service on this machine and remove what Sluice made for it", Args: cobra.NoArgs,
		Long: `Down drains and ends every version of the service, detaches the traffic splitter
and removes control groups and state. The out folder stays as it is.`,
		Example: `  sluice down`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, out, err := o.config()
			if err != nil {
				return err
			}
			if !local.Exists(cfg.Name) {
				fmt.Fprintf(cmd.ErrOrStderr(), "sluice: nothing of %s is on this machine\n", cfg.Name)
				return nil
			}
			if dryRun {
				fmt.Fprintf(cmd.OutOrStdout(), "would stop %s on %v\n", cfg.Name, cfg.Deploy.Local.Listen)
				return nil
			}
			t, err := local.Open(cmd.Context(), pipeline.LocalConfig(cfg, out))
			if err != nil {
				return err
			}
			defer t.Close()
			begin := time.Now()
			if err := t.Down(cmd.Context()); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s stopped in %v\n", cfg.Name, time.Since(begin).Round(time.Millisecond))
			return nil
		},
	}
	o.addFile(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

func statusCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "status", Short: "Which version serves, and where", Args: cobra.NoArgs,
		Example: `  sluice status
  sluice status -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			cfg, _, err := o.config()
			if err != nil {
				return err
			}
			if done, err := inCluster(cmd, cfg, "--file", o.file, "--output", o.format); done {
				return err
			}
			st, err := local.Look(cfg.Name)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), st)
			}
			if st.Version == "" {
				fmt.Fprintf(cmd.OutOrStdout(), "%s does not run here\n", cfg.Name)
				return nil
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s serves %s (process %d, ledger in %s)\n", cfg.Name, st.Version, st.Front, st.PID, st.Out)
			return nil
		},
	}
	o.addFile(cmd)
	o.addFormat(cmd)
	return cmd
}
