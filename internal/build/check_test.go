package build

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestCheckFormatRefuses(t *testing.T) {
	native := Native()
	for name, tt := range map[string]struct {
		content  string
		platform Platform
		got      string
	}{
		"a text file as ELF":    {"#!/bin/sh\n", Platform{"linux", "amd64", ""}, "another file"},
		"a text file as Mach-O": {"#!/bin/sh\n", Platform{"darwin", "arm64", ""}, "another file"},
		"a text file as PE":     {"#!/bin/sh\n", Platform{"windows", "amd64", ""}, "another file"},
		"an empty file":         {"", native, "another file"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x")
			if err := os.WriteFile(path, []byte(tt.content), 0o755); err != nil {
				t.Fatal(err)
			}
			var format *FormatError
			if err := CheckFormat(path, tt.platform); !errors.As(err, &format) || !strings.Contains(format.Got, tt.got) {
				t.Errorf("got %v, want %q", err, tt.got)
			}
		})
	}
	if err := CheckFormat(filepath.Join(t.TempDir(), "none"), native); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v for a file that does not exist", err)
	}
}

func TestCheckFormatRefusesADynamicBinary(t *testing.T) {
	testenv.Need(t, "gcc")
	dir := t.TempDir()
	write(t, dir, map[string]string{"x.c": "int main(void) { return 0; }\n"})
	path := filepath.Join(dir, "x")
	if out, err := exec.CommandContext(t.Context(), "gcc", "-o", path, filepath.Join(dir, "x.c")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var format *FormatError
	if err := CheckFormat(path, Native()); !errors.As(err, &format) || !strings.Contains(format.Got, "interpreter /lib") {
		t.Errorf("got %v", err)
	}
}
