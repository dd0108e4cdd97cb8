package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/forecast"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// expectation is a row of sluice gate plan.
type expectation struct {
	Release string `json:"release"`
	forecast.Forecast
}

func gatePlanCommand() *cobra.Command {
	var o options
	var rate, failing float64
	const times = 40
	cmd := &cobra.Command{
		Use: "plan", Short: "Forecast how long rollouts will take, and how much traffic a bad release will get", Args: cobra.NoArgs,
		Long: `Plan runs the gate and the steps of sluice.yaml on made-up requests: forty
rollouts of each kind of release. Latencies are log-normal and requests
independent, which no service is; the answer is of the right size, no more. In
GitHub Actions it is added to the summary of the step, too.`,
		Example: `  sluice gate plan --rate 200
  sluice gate plan --rate 5 --errors 0.2 -o json     a quiet service of which 0.2 % fail`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			if rate <= 0 || failing < 0 || failing >= 100 {
				return fmt.Errorf("--rate %g, --errors %g: want a rate above 0 and a share of errors from 0 to 100", rate, failing)
			}
			cfg, err := config.Load(o.file)
			if err != nil {
				return err
			}
			rows, err := expect(cfg, forecast.Service{Rate: rate, Errors: failing / 100}, times)
			if err != nil {
				return fmt.Errorf("%s: deploy: %w", o.file, err)
			}
			if err := actions.New(os.Getenv, cmd.ErrOrStderr()).Summarize([]byte(forecastTable(rows, rate))); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), rows)
			}
			return printForecast(cmd.OutOrStdout(), rows)
		},
	}
	cmd.Flags().StringVarP(&o.file, "file", "f", "sluice.yaml", "configuration")
	cmd.Flags().Float64Var(&rate, "rate", 100, "requests a second that the service gets")
	cmd.Flags().Float64Var(&failing, "errors", 0.1, "per cent of the stable version's requests that fail")
	o.addFormat(cmd)
	return cmd
}

func expect(cfg *config.Config, s forecast.Service, times int) ([]expectation, error) {
	plan, rules := verdict.Plan(cfg.Deploy.Canary), verdict.Gate(cfg.Deploy.Gate)
	var rows []expectation
	for _, r := range []struct {
		name string
		forecast.Release
	}{
		{"as good as the stable version", forecast.Release{}},
		{"half as slow again", forecast.Release{Slower: 0.5}},
		{"twice as slow", forecast.Release{Slower: 1}},
		{"5 % more errors", forecast.Release{Errors: 0.05}},
	} {
		f, err := forecast.Run(rules, plan, cfg.Deploy.Canary.Block.Std(), s, r.Release, times, 1)
		if err != nil {
			return nil, err
		}
		rows = append(rows, expectation{r.name, f})
	}
	return rows, nil
}

func printForecast(w io.Writer, rows []expectation) error {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "RELEASE\tPROMOTED\tHALF END WITHIN\t90 % WITHIN\tREQUESTS TO THE CANARY")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%.0f %%\t%v\t%v\t%d\n", r.Release, 100*r.Promoted, r.Median.Round(time.Second), r.P90.Round(time.Second), r.Requests)
	}
	return t.Flush()
}

// forecastTable is the forecast in Markdown.
func forecastTable(rows []expectation, rate float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### Gate plan: %g requests a second\n\n| release | promoted | half end within | 90 %% within | requests to the canary |\n|---|---|---|---|---|\n", rate)
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %.0f %% | %v | %v | %d |\n", r.Release, 100*r.Promoted, r.Median.Round(time.Second), r.P90.Round(time.Second), r.Requests)
	}
	b.WriteString("\n")
	return b.String()
}
