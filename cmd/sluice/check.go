package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/verdict"
)

func checkCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "check", Short: "Check sluice.yaml and say everything that is wrong with it", Args: cobra.NoArgs,
		Long: `Check reads the configuration and reports every problem at once, each with its
line. Editors can do the same while you type: docs/sluice.schema.json.`,
		Example: `  sluice check
  sluice check -f other/sluice.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(o.file)
			if err != nil {
				return err
			}
			if err := verdict.Plan(cfg.Deploy.Canary).Validate(); err != nil {
				return fmt.Errorf("%s: deploy.canary: %w", o.file, err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %s is in order\n", o.file, cfg.Name)
			return nil
		},
	}
	cmd.Flags().StringVarP(&o.file, "file", "f", "sluice.yaml", "configuration")
	return cmd
}
