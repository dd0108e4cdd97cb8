package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/argocd/operation"
	"github.com/sluice-cd/sluice/internal/actions"
)

func syncCommand() *cobra.Command {
	var o operator
	var request operation.Request
	var sarif string
	cmd := &cobra.Command{
		Use: "sync", Short: "Ask Argo CD for a sync, and wait for the verdict", Args: cobra.NoArgs,
		Long: `Sync starts a sync of the Application and waits for its end; one of the same
commit that is under way is joined, another one is waited for. Without --revision
it is of the commit that the Application asks for now. The exit status is the
verdict of the hooks; 1 if the sync failed without one. It talks to the API server
only: get and patch of the Application are all the rights it takes.`,
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
			request.Namespace, request.App = s.AppNamespace, s.App
			res, err := operation.Sync(cmd.Context(), cfg, request, func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) })
			switch {
			case request.DryRun && err == nil && json:
				return printJSON(cmd.OutOrStdout(), res)
			case request.DryRun && err == nil:
				fmt.Fprintf(cmd.OutOrStdout(), "%s is at %.12s: %s\n", res.App, res.Revision, res.Message)
				return nil
			}
			if tellErr := publish(actions.New(os.Getenv, cmd.ErrOrStderr()), res, err); tellErr != nil {
				return errors.Join(err, tellErr)
			}
			if sarif != "" {
				err = errors.Join(err, writeSARIF(sarif, o.file, err))
			}
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
	cmd.Flags().StringVar(&request.Revision, "revision", "", "commit, branch or tag (default: what the Application asks for)")
	cmd.Flags().StringVar(&sarif, "sarif", "", "file for what is wrong, for code scanning; nothing wrong closes its alerts")
	cmd.Flags().DurationVar(&request.Timeout, "timeout", 15*time.Minute, "how long to wait; the sync itself goes on")
	cmd.Flags().BoolVar(&request.DryRun, "dry-run", false, "say what would be done, and whether it may be, and do nothing")
	return cmd
}

// publish hands the result to the steps of a workflow that follow, and to whoever
// opens the run.
func publish(j *actions.Job, res operation.Result, failed error) error {
	if failed != nil {
		j.Annotate(actions.Annotation{Level: actions.Error, Title: "sluice: gate", Text: failed.Error()})
	}
	for _, o := range []struct{ name, value string }{
		{"version", res.Release},
		{"verdict", res.Verdict},
		{"reason", res.Reason},
		{"revision", res.Revision},
	} {
		if err := j.Output(o.name, o.value); err != nil {
			return err
		}
	}
	return j.Summarize(fmt.Appendf(nil, "### %s %s: %s\n\n%s\n\n| sync | revision | took |\n|---|---|---|\n| %s | %.12s | %.0f s |\n",
		actions.Cell(res.App), actions.Cell(res.Release), cmp.Or(res.Verdict, "no verdict"), actions.Cell(cmp.Or(res.Reason, res.Message)),
		cmp.Or(res.Phase, "not ended"), res.Revision, res.Took.Seconds()))
}

// writeSARIF writes a log for code scanning. A verdict is about the release, so
// it is shown at the file that says how releases are judged.
func writeSARIF(file, config string, failed error) error {
	var found []actions.Finding
	if failed != nil {
		found = append(found, actions.Finding{Rule: "gate", File: config, Text: failed.Error()})
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("writing SARIF: %w", err)
	}
	return errors.Join(actions.WriteSARIF(f, version(), found), f.Close())
}

func judgement(r operation.Result) string {
	if r.Verdict == "" {
		return ""
	}
	return fmt.Sprintf(", release %s: %s: %s", r.Release, r.Verdict, r.Reason)
}
