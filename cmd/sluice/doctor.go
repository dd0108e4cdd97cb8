package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/doctor"
)

// errUnfit is returned after the checks themselves were printed.
var errUnfit = errors.New("this machine lacks something that sluice run needs")

func doctorCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "doctor", Short: "What this machine can and cannot do, tried for real, with a fix for each", Args: cobra.NoArgs,
		Long: `Doctor tries what Sluice needs instead of guessing from versions: it loads and
attaches small eBPF programs, makes a control group, steers a connection, starts
the tools. Everything it makes is removed again.`,
		Example: `  sudo sluice doctor
  sluice doctor -o json | jq '.[] | select(.status != "ok")'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			out, err := filepath.Abs(o.out)
			if err != nil {
				return fmt.Errorf("finding the out folder: %w", err)
			}
			checks := doctor.Run(cmd.Context(), doctor.Options{OutDir: out})
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), checks)
			} else {
				printChecks(cmd, checks)
			}
			if err == nil && !doctor.Fit(checks) {
				err = errUnfit
			}
			return err
		},
	}
	cmd.Flags().StringVar(&o.out, "out", "out", "folder whose disk is looked at")
	o.addFormat(cmd)
	return cmd
}

func printChecks(cmd *cobra.Command, checks []doctor.Check) {
	w := cmd.OutOrStdout()
	for _, c := range checks {
		fmt.Fprintf(w, "%-8s %-28s %s\n", c.Status, c.Name, c.What)
		if c.Status != doctor.OK && c.Fix != "" {
			fmt.Fprintf(w, "%-8s %-28s needed for %s; fix: %s\n", "", "", c.NeededFor, c.Fix)
		}
	}
}
