package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/pipeline"
)

func verifyCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "verify", Short: "Verify a release: signatures, digests, SBOMs, image", Args: cobra.NoArgs,
		Long: `Verify checks everything about a release as it lies in the out folder: the
manifest's signature, every file against the manifest, the signature of every
file, that each SBOM is of its artifact, and the image in the OCI layout. It
demands the configured key and never asks the network.`,
		Example: `  sluice verify --version v1.1.0
  sluice verify --version v1.1.0 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			j, err := o.job(cmd.Context(), nil)
			if err != nil {
				return err
			}
			checks, verifyErr := pipeline.Verify(j)
			if asJSON {
				if err := printJSON(cmd.OutOrStdout(), checks); err != nil {
					return err
				}
				return verifyErr
			}
			for _, c := range checks {
				mark := "ok  "
				if c.Problem != "" {
					mark = "FAIL"
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s  %s%s\n", mark, c.What, problemText(c.Problem))
			}
			return verifyErr
		},
	}
	o.addFile(cmd)
	o.addVersion(cmd)
	o.addFormat(cmd)
	o.addKey(cmd)
	return cmd
}

func problemText(p string) string {
	if p == "" {
		return ""
	}
	return ": " + p
}
