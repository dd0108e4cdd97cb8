package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/sbom"
)

func sbomDiffCommand() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "diff OLD NEW", Short: "Compare two SBOMs: what came, what went, what has another version", Args: cobra.ExactArgs(2),
		Long: `Diff compares the components of two CycloneDX documents. In GitHub Actions the
result is added to the summary of the step, too.`,
		Example: `  sluice sbom diff old.cdx.json out/releases/v1.1.0/sbom/linux_amd64.cdx.json
  sluice sbom diff -o markdown old.cdx.json new.cdx.json     for a comment on a pull request`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var docs [2][]byte
			for i, file := range args {
				raw, err := readFile("SBOM", file, 64<<20)
				if err != nil {
					return err
				}
				docs[i] = raw
			}
			list, err := sbom.Diff(docs[0], docs[1])
			if err != nil {
				return err
			}
			if err := actions.New(os.Getenv, cmd.ErrOrStderr()).Summarize([]byte(markdown(list))); err != nil {
				return err
			}
			switch format {
			case "text":
				return printChanges(cmd.OutOrStdout(), list)
			case "markdown":
				_, err := io.WriteString(cmd.OutOrStdout(), markdown(list))
				return err
			case "json":
				return printJSON(cmd.OutOrStdout(), append([]sbom.Change{}, list...))
			}
			return fmt.Errorf("unknown output %q (known: text, markdown, json)", format)
		},
	}
	cmd.Flags().StringVarP(&format, "output", "o", "text", "format of the result: text, markdown or json")
	return cmd
}

func printChanges(w io.Writer, list []sbom.Change) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mark(c), c.Name, span(c), strings.Join(c.Licences, ", "))
	}
	if len(list) == 0 {
		fmt.Fprintln(t, "the components are the same")
	}
	return t.Flush()
}

// mark is what a diff puts in front of a line.
func mark(c sbom.Change) string {
	switch {
	case c.Old == "":
		return "+"
	case c.New == "":
		return "-"
	}
	return "~"
}

func span(c sbom.Change) string {
	if c.Old != "" && c.New != "" {
		return c.Old + " → " + c.New
	}
	return cmp.Or(c.New, c.Old)
}

func markdown(list []sbom.Change) string {
	if len(list) == 0 {
		return "### SBOM\n\nThe components are the same.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "### SBOM: %d components changed\n\n| | component | version | licence |\n|---|---|---|---|\n", len(list))
	for _, c := range list {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", mark(c), actions.Cell(c.Name), actions.Cell(span(c)), actions.Cell(strings.Join(c.Licences, ", ")))
	}
	return b.String()
}
