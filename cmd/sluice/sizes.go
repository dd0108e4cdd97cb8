package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/sluice-cd/sluice/internal/build"
	"github.com/sluice-cd/sluice/internal/pack"
)

// printSizes prints what stripping and packing came to, for the steps that do
// it; nothing for others.
func printSizes(w io.Writer, made any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	switch list := made.(type) {
	case []build.Binary:
		if len(list) == 0 {
			return nil
		}
		printBinaries(t, list)
	case []pack.Result:
		fmt.Fprintln(t, "PLATFORM\tSTRIPPED\tPACKED\tSTART\tPACKED START\tMEMORY\tPACKED MEMORY\t  KEPT")
		for _, r := range list {
			kept := "stripped"
			if r.Packed {
				kept = "packed"
			}
			if r.Reason != "" {
				kept += ": " + r.Reason
			}
			fmt.Fprintf(t, "%v\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", r.Platform, mebibytes(r.StrippedBytes), mebibytes(r.PackedBytes),
				millis(r.StrippedStart), millis(r.PackedStart), mebibytes(r.StrippedRSS), mebibytes(r.PackedRSS), kept)
		}
	}
	return t.Flush()
}

// printBinaries has a column for what stripping saves if that was measured.
func printBinaries(w io.Writer, list []build.Binary) {
	if list[0].UnstrippedBytes == 0 {
		fmt.Fprintln(w, "PLATFORM\tSTRIPPED\t")
		for _, b := range list {
			fmt.Fprintf(w, "%v\t%s\t\n", b.Platform, mebibytes(b.SizeBytes))
		}
		return
	}
	fmt.Fprintln(w, "PLATFORM\tUNSTRIPPED\tSTRIPPED\t")
	for _, b := range list {
		fmt.Fprintf(w, "%v\t%s\t%s\t\n", b.Platform, mebibytes(b.UnstrippedBytes), mebibytes(b.SizeBytes))
	}
}

func mebibytes(n int64) string {
	if n == 0 {
		return "–"
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
