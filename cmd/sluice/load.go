package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/load"
)

func loadCommand() *cobra.Command {
	var o options
	opts := load.Options{}
	cmd := &cobra.Command{
		Use: "load URL...", Short: "Send requests at a constant rate, and count what comes back", Args: cobra.MinimumNArgs(1),
		Long: `Load is open-loop: a request is sent when it is due, however long the ones
before it take, so that a slow server shows. By default each request has a
connection of its own, because the traffic splitter divides connections. It
fails if any request got no answer.`,
		Example: `  sluice load http://127.0.0.1:8080/work                     200 a second, until Ctrl-C
  sluice load --rate 1000 --for 30s -o json http://127.0.0.1:8080/work`,
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			opts.URLs = args
			opts.EachSecond = func(s load.Stats) { fmt.Fprintln(cmd.ErrOrStderr(), loadLine(s)) }
			res, err := load.Run(cmd.Context(), opts)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), res)
			} else {
				fmt.Fprintln(cmd.OutOrStdout(), "total "+loadLine(res.Stats))
			}
			if err == nil && res.Failed > 0 {
				err = failedRequests{res.Stats}
			}
			return err
		},
	}
	o.addFormat(cmd)
	cmd.Flags().Float64Var(&opts.Rate, "rate", 200, "requests a second")
	cmd.Flags().DurationVar(&opts.Duration, "for", 0, "how long (default: until interrupted)")
	cmd.Flags().BoolVar(&opts.KeepAlive, "keep-alive", false, "use connections again")
	cmd.Flags().DurationVar(&opts.Timeout, "timeout", load.DefaultTimeout, "of one request")
	cmd.Flags().StringVar(&opts.Method, "method", "GET", "HTTP method")
	return cmd
}

func loadLine(s load.Stats) string {
	line := fmt.Sprintf("%s  %d sent  %d answered  %d 5xx  %d failed  p50 %s  p99 %s",
		s.End.Format(time.TimeOnly), s.Sent, s.Answered, s.Classes[5], s.Failed, millis(s.Latency.P50), millis(s.Latency.P99))
	if t := s.Trouble(); t != "" {
		line += "  (" + t + ")"
	}
	return line
}

// failedRequests says what happened to requests that got no answer.
type failedRequests struct{ load.Stats }

func (e failedRequests) Error() string {
	text := fmt.Sprintf("%d of %d requests got no answer", e.Failed, e.Sent)
	for _, f := range e.Errors {
		text += fmt.Sprintf("; %d times %s", f.Count, f.Text)
	}
	return text
}

func (failedRequests) ExitCode() int { return 1 }
