package main

import (
	"cmp"
	"context"
	"errors"
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
	var file, base, format string
	var comment bool
	cmd := &cobra.Command{
		Use: "diff [OLD NEW]", Short: "Compare two SBOMs: what came, what went, what has another version",
		Long: `Diff compares the components of two CycloneDX documents. With --base it makes
them first: of the service as it was where this branch parted from another, and as
it is now. In GitHub Actions the result is added to the summary of the step, and
with --comment it is a comment on the pull request, always the same one.`,
		Example: `  sluice sbom diff old.cdx.json out/releases/v1.1.0/sbom/linux_amd64.cdx.json
  sluice sbom diff -o markdown old.cdx.json new.cdx.json
  sluice sbom diff --base origin/main          what does this branch bring in?`,
		RunE: func(cmd *cobra.Command, args []string) error {
			docs, err := documents(cmd, args, file, base)
			if err != nil {
				return err
			}
			list, err := sbom.Diff(docs[0], docs[1])
			if err != nil {
				return err
			}
			job := actions.New(os.Getenv, cmd.ErrOrStderr())
			if err := job.Summarize([]byte(markdown(list))); err != nil {
				return err
			}
			if err := printDiff(cmd.OutOrStdout(), list, format); err != nil || !comment {
				return err
			}
			return commentOn(cmd.Context(), job, "sbom", markdown(list))
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "sluice.yaml", "configuration, for --base")
	cmd.Flags().StringVar(&base, "base", "", "branch or commit to compare with, in place of two documents")
	cmd.Flags().BoolVar(&comment, "comment", false, "in a pull request on GitHub, say it there")
	cmd.Flags().StringVarP(&format, "output", "o", "text", "format of the result: text, markdown or json")
	return cmd
}

// documents are the two that were named, or those of a branch and its base.
func documents(cmd *cobra.Command, args []string, file, base string) (docs [2][]byte, err error) {
	switch {
	case base != "" && len(args) > 0:
		return docs, errors.New("--base makes both documents: name none, or leave it out")
	case base != "":
		return sinceBase(cmd.Context(), file, base, newProgress(cmd.ErrOrStderr()))
	case len(args) != 2:
		return docs, fmt.Errorf("%d documents, want two (OLD NEW), or --base origin/main", len(args))
	}
	for i, name := range args {
		if docs[i], err = readFile("SBOM", name, 64<<20); err != nil {
			return docs, err
		}
	}
	return docs, nil
}

// commentOn says something on the pull request. Who may not, as the token of a
// fork, gets a warning: the summary has it.
func commentOn(ctx context.Context, job *actions.Job, subject, text string) error {
	err := job.Comment(ctx, subject, []byte(text))
	var denied *actions.DeniedError
	if errors.As(err, &denied) {
		job.Annotate(actions.Annotation{Level: actions.Warning, Title: "sluice: comment", Text: err.Error() + "\n" + denied.Hint()})
		return nil
	}
	return err
}

func printDiff(w io.Writer, list []sbom.Change, format string) error {
	switch format {
	case "text":
		return printChanges(w, list)
	case "markdown":
		_, err := io.WriteString(w, markdown(list))
		return err
	case "json":
		return printJSON(w, append([]sbom.Change{}, list...))
	}
	return fmt.Errorf("unknown output %q (known: text, markdown, json)", format)
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
