package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTools puts made-up tools on PATH: shell scripts that print, fail or hang.
func TestTools(t *testing.T) {
	for name, tt := range map[string]struct {
		tool, script string
		status       Status
		what         string
	}{
		"a good one":                  {"upx", "echo 'upx 4.2.2'; echo UCL", OK, "upx 4.2.2"},
		"one that is not there":       {"upx", "", Missing, "upx is not on PATH"},
		"one that is too old":         {"upx", "echo 'upx 3.96'", Broken, "upx 3.96 is too old for current Go binaries: 4.2 is known to work"},
		"one that is something else":  {"upx", "echo hello", Broken, `"upx --version" printed "hello"`},
		"one that does not start":     {"upx", "echo 'GLIBC_2.38 not found' >&2; exit 1", Broken, "upx --version: exit status 1: GLIBC_2.38 not found"},
		"one that never ends":         {"git", "exec sleep 60", Broken, "git --version: signal: killed: "},
		"go of another name":          {"go", "echo gccgo", Broken, `"go version" printed "gccgo"`},
		"go":                          {"go", "echo go version go1.26.3 linux/amd64", OK, "go1.26.3 linux/amd64"},
		"go that wants to fetch more": {"go", "echo go version $GOTOOLCHAIN $PWD", OK, "local " + strings.TrimSuffix(os.TempDir(), "/")},
		"one emulator of three":       {"qemu-aarch64-static", "echo qemu", Missing, "no qemu-<arch>-static that starts for arm, riscv64"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.script != "" {
				if err := os.WriteFile(filepath.Join(dir, tt.tool), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if name == "one that never ends" {
				if err := os.Symlink("/bin/sleep", filepath.Join(dir, "sleep")); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("PATH", dir)
			want := tt.tool
			if want == "qemu-aarch64-static" {
				want = "qemu-user"
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if name == "one that never ends" {
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			for _, trial := range toolTrials() {
				if trial.name != want {
					continue
				}
				c := trial.do(ctx, newBench(Options{}))
				if c.Status != tt.status || strings.TrimPrefix(c.What, dir+"/") != tt.what || (c.Fix == "") != (c.Status == OK) {
					t.Errorf("got %+v\nwant %s %s", c, tt.status, tt.what)
				}
				return
			}
			t.Errorf("there is no check of %s", want)
		})
	}
}

func TestDisk(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ out, want string }{
		"a folder that is there":          {dir, " GiB free in " + dir},
		"a folder that will be made":      {filepath.Join(dir, "a", "b"), " GiB free in " + dir},
		"a folder that cannot be":         {filepath.Join(file, "out"), "not a directory"},
		"a file system without any space": {"/proc", "writing a file: "},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := tryDisk(t.Context(), &bench{outDir: tt.out})
			if err != nil {
				text = err.Error()
			}
			if !strings.Contains(text, tt.want) {
				t.Errorf("got %q, want %q", text, tt.want)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".sluice-doctor-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
