package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/verdict"
)

func gateCommand() *cobra.Command {
	var o options
	var id int
	var asConfigured bool
	cmd := &cobra.Command{
		Use: "gate", Short: "Judge a recorded rollout again, with its evidence", Args: cobra.NoArgs,
		Long: `Gate takes the samples that a rollout recorded and judges them again: with the
settings that were in force the verdict is the same, byte for byte. With
--as-configured it answers what the settings in sluice.yaml would have said.
The exit status is the verdict.`,
		Example: `  sluice gate                          the newest rollout
  sluice gate --version v1.2.0         the newest one of a version
  sluice gate --rollout 3 --as-configured -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			out, err := filepath.Abs(o.out)
			if err != nil {
				return fmt.Errorf("finding the out folder: %w", err)
			}
			dir, err := pipeline.RolloutDir(out, id, o.version)
			if err != nil {
				return err
			}
			var with *gate.Config
			if asConfigured {
				cfg, _, err := o.config()
				if err != nil {
					return err
				}
				g := verdict.Gate(cfg.Deploy.Gate)
				with = &g
			}
			v, rec, err := pipeline.Replay(dir, with)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), v)
			} else {
				printVerdict(cmd, v)
			}
			if err = errors.Join(err, publishOutcome(actions.New(os.Getenv, os.Stderr), rec.Record.Name, replayed(v, rec.Record))); err != nil || v.Outcome == gate.Pass {
				return err
			}
			return verdictError{v, rec.Record.Version}
		},
	}
	o.addFile(cmd)
	o.addVersion(cmd)
	o.addFormat(cmd)
	cmd.AddCommand(gatePlanCommand())
	cmd.Flags().IntVar(&id, "rollout", 0, "number of the rollout in the ledger (default: the newest)")
	cmd.Flags().BoolVar(&asConfigured, "as-configured", false, "judge by the settings in the file instead of those recorded")
	return cmd
}

// replayed is what a verdict on a recorded rollout says to a workflow: the rollout
// itself is long over.
func replayed(v gate.Verdict, rec release.Record) Outcome {
	return Outcome{
		Version: rec.Version, Verdict: v.Outcome.String(), Reason: v.Reason, Image: rec.Image, said: "gate: " + v.Outcome.String(),
	}
}

func printVerdict(cmd *cobra.Command, v gate.Verdict) {
	for _, c := range v.Checks {
		fmt.Fprintln(cmd.OutOrStdout(), c)
	}
}

// verdictError is a verdict that is no pass.
type verdictError struct {
	gate.Verdict
	version string
}

func (e verdictError) Error() string {
	return fmt.Sprintf("gate: %s: %s: %s", e.version, e.Outcome, e.Reason)
}

func (e verdictError) ExitCode() int { return e.Outcome.ExitCode() }
