package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/release"
)

func historyCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use: "history", Short: "What was rolled out, and how it ended", Args: cobra.NoArgs,
		Long: `History prints the ledger, oldest first, after checking its hash chain. It may
be asked while a rollout runs.`,
		Example: `  sluice history
  sluice history -o json | jq '.[] | select(.outcome == "rolled-back")'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			records, err := release.ReadHistory(filepath.Join(o.out, "ledger.jsonl"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if asJSON {
				if records == nil {
					records = []release.Record{}
				}
				return printJSON(cmd.OutOrStdout(), records)
			}
			return printHistory(cmd, records)
		},
	}
	cmd.Flags().StringVar(&o.out, "out", "out", "folder with the ledger")
	o.addFormat(cmd)
	return cmd
}

func printHistory(cmd *cobra.Command, records []release.Record) error {
	if len(records) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "sluice: nothing was rolled out yet")
		return nil
	}
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STARTED\tVERSION\tOUTCOME\tVERDICT\tTRIGGER\tTOOK\tBREACH → TRAFFIC\tREQUESTS (STABLE/CANARY)")
	for _, r := range records {
		took, moved := "running or cut off", "–"
		if r.Finished() {
			took = r.Ended.Sub(r.Started).Round(100 * time.Millisecond).String()
		}
		if r.BreachToTrafficMS != nil {
			moved = (time.Duration(*r.BreachToTrafficMS) * time.Millisecond).String()
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d/%d\n", r.Started.Local().Format(time.DateTime), r.Version,
			cmp.Or(string(r.Outcome), "–"), cmp.Or(r.Verdict, "–"), cmp.Or(string(r.Trigger), "–"), took, moved, r.Requests.Stable, r.Requests.Canary)
	}
	return w.Flush()
}
