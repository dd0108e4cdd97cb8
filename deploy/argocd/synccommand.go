package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/argocd/operation"
)

func syncCommand() *cobra.Command {
	var o operator
	var revision string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "sync", Short: "Ask Argo CD for a sync, and wait for the verdict", Args: cobra.NoArgs,
		Long: `Sync starts a sync of the Application, or joins the one that is under way, and
waits for its end. The exit status is the verdict of the hooks; 1 if the sync
failed without one. It talks to the API server only: get and patch of the
Application are all the rights it takes.`,
		Example: `  sluice-argo sync -f sluice.yaml
  sluice-argo sync --revision v1.2.0 --timeout 20m -o json | jq .verdict`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			json, err := asJSON(o.format)
			if err != nil {
				return err
			}
			s, cfg, err := o.open()
			if err != nil {
				return err
			}
			res, err := operation.Sync(cmd.Context(), cfg, operation.Request{
				Namespace: s.AppNamespace, App: s.App, Revision: revision, Timeout: timeout,
			}, func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
			switch {
			case json && res.Phase != "":
				if err := printJSON(cmd.OutOrStdout(), res); err != nil {
					return err
				}
			case err == nil:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is at %.12s%s\n", res.App, res.Revision, judgement(res))
			}
			return err
		},
	}
	o.flags(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "commit, branch or tag (default: what the Application asks for)")
	cmd.Flags().DurationVar(&timeout, "timeout", 15*time.Minute, "how long to wait; the sync itself goes on")
	return cmd
}

func judgement(r operation.Result) string {
	if r.Verdict == "" {
		return ""
	}
	return fmt.Sprintf(", release %s: %s: %s", r.Release, r.Verdict, r.Reason)
}
