package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

// column is what was found on one kernel.
type column struct {
	kernel  kernel
	version string // of the Debian package
	report
}

// outcome finds that of a capability.
func (c column) outcome(name string) (outcome.Outcome, bool) {
	i := slices.IndexFunc(c.outcomes, func(o outcome.Outcome) bool { return o.Name == name })
	if i < 0 {
		return outcome.Outcome{}, false
	}
	return c.outcomes[i], true
}

// cell says in a word or two whether a capability is there.
func (c column) cell(name string) string {
	o, ok := c.outcome(name)
	if !ok {
		return "not tried"
	}
	switch s, err := judge(c.report.kernel, o); {
	case err != nil:
		return err.Error()
	case s == works:
		return "yes"
	case s == unsupported:
		return "needs " + o.Needs
	}
	return "**broken**"
}

// table is kernels by capabilities, in Markdown.
func table(columns []column) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		fmt.Fprintf(&b, " %s |", c.kernel.name)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(columns)) + "\n")
	for _, name := range capabilities(columns) {
		fmt.Fprintf(&b, "| %s |", name)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", c.cell(name))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// capabilities are all names, in the order in which they were tried.
func capabilities(columns []column) (names []string) {
	for _, c := range columns {
		for _, o := range c.outcomes {
			if !slices.Contains(names, o.Name) {
				names = append(names, o.Name)
			}
		}
	}
	return names
}

// versions says which kernels exactly were tried.
func versions(columns []column) string {
	var list []string
	for _, c := range columns {
		list = append(list, fmt.Sprintf("%s (%s)", c.version, c.kernel.suite))
	}
	return "Kernels: Debian's " + strings.Join(list, ", ") + "."
}

// The table stands between these lines.
const (
	beginMark = "<!-- kernels -->\n"
	endMark   = "<!-- /kernels -->\n"
)

// cut divides a document at the two lines.
func cut(doc []byte) (before, between, after []byte, err error) {
	before, rest, ok := bytes.Cut(doc, []byte(beginMark))
	between, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, nil, nil, fmt.Errorf("it has no place for the table: a line %q and behind it a line %q", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return before, between, after, nil
}

// writeTable puts the table into a document.
func writeTable(file string, columns []column) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	before, _, after, err := cut(doc)
	if err != nil {
		return fmt.Errorf("writing the table into %s: %w", file, err)
	}
	doc = fmt.Appendf(nil, "%s%s\n%s\n%s\n\n%s%s", before, beginMark, table(columns), versions(columns), endMark, after)
	if err := os.WriteFile(file, doc, 0o644); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	return nil
}

// errStale means that a document tells something else than what was found.
var errStale = errors.New("differs from what was found")

// compareTable looks whether a document has the table. Versions of packages may
// differ: Debian has a new one every other week.
func compareTable(file string, columns []column) error {
	doc, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("reading the document: %w", err)
	}
	_, between, _, err := cut(doc)
	if err != nil {
		return fmt.Errorf("comparing the table in %s: %w", file, err)
	}
	var rows []byte
	for line := range bytes.Lines(between) {
		if bytes.HasPrefix(line, []byte("|")) {
			rows = append(rows, line...)
		}
	}
	if string(rows) != table(columns) {
		return fmt.Errorf("the table in %s %w: write it again and commit it", file, errStale)
	}
	return nil
}
