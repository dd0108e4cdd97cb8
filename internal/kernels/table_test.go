package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/kernels/outcome"
)

// found is what two kernels do.
func found() []column {
	loads := outcome.Outcome{Name: "probe: loads", Needs: "5.12"}
	refused := loads
	refused.Error = "refused"
	return []column{
		{kernel: kernels[0], version: "5.10.262-1", report: report{"5.10.0-46-cloud-amd64", []outcome.Outcome{refused}}},
		{kernel: kernels[1], version: "6.1.192-2", report: report{"6.1.0-56-cloud-amd64", []outcome.Outcome{loads, {Name: "probe: counts", Needs: "5.12", Error: "not one"}}}},
	}
}

const foundTable = `| | 5.10 | 6.1 |
|---|---|---|
| probe: loads | needs 5.12 | yes |
| probe: counts | not tried | **broken** |
`

func TestTheTableHasEveryKernelAndCapability(t *testing.T) {
	if got := table(found()); got != foundTable {
		t.Errorf("got\n%s\nwant\n%s", got, foundTable)
	}
}

// document writes a file with something between the marks.
func document(t *testing.T, between string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "README.md")
	if err := os.WriteFile(file, []byte("before\n"+beginMark+between+endMark+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestWhatWasWrittenIsFoundAgain(t *testing.T) {
	file := document(t, "an older table\n")
	if err := compareTable(file, found()); !errors.Is(err, errStale) {
		t.Errorf("%v, want that the table is stale", err)
	}
	for range 2 { // writing again changes nothing
		if err := writeTable(file, found()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want := "before\n" + beginMark + "\n" + foundTable + "\nKernels: Debian's 5.10.262-1 (bullseye), 6.1.192-2 (bookworm).\n\n" + endMark + "after\n"
		if string(text) != want {
			t.Errorf("got\n%s\nwant\n%s", text, want)
		}
		if err := compareTable(file, found()); err != nil {
			t.Error(err)
		}
	}
	newer := found()
	newer[0].version = "5.10.300-1"
	if err := compareTable(file, newer); err != nil {
		t.Errorf("another package of the same kernel: %v", err)
	}
	newer[1].outcomes[1].Error = ""
	if err := compareTable(file, newer); !errors.Is(err, errStale) {
		t.Errorf("a capability more: %v, want that the table is stale", err)
	}
}

func TestADocumentWithoutPlaceIsLeftAlone(t *testing.T) {
	for name, text := range map[string]string{
		"no mark":          "text\n",
		"no end":           beginMark + "text\n",
		"the end is first": endMark + beginMark,
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "README.md")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			for _, err := range []error{writeTable(file, found()), compareTable(file, found())} {
				if err == nil || !strings.Contains(err.Error(), "<!-- kernels -->") {
					t.Errorf("%v, want an error that names the marks", err)
				}
			}
			if got, _ := os.ReadFile(file); string(got) != text {
				t.Errorf("the document is %q now", got)
			}
		})
	}
}
