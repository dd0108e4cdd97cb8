package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
)

// The compiler is pinned: two versions of clang make two objects.
const (
	bpfCompiler = "clang-19"
	bpfStrip    = "llvm-strip-19"
)

// bpfCompileTime bounds compiling one file.
const bpfCompileTime = 2 * time.Minute

func bpfBuildCommand() *cobra.Command {
	var to string
	var include []string
	var dryRun bool
	step := stepCommand("bpf", "")
	cmd := &cobra.Command{
		Use: "build [SOURCE.bpf.c]", Short: "Compile an object, or take the one of sluice.yaml into the release", Args: cobra.MaximumNArgs(1),
		Long: `Build compiles a program for little-endian machines (amd64 and arm64) with
clang-19, as the objects of sluice itself are compiled: the same source gives the
same bytes in any folder. Debug information is removed, BTF stays.

Without a source it is the step bpf of sluice run.`,
		Example: `  sluice bpf build probe.bpf.c -I include
  sluice bpf build probe.bpf.c --to out/probe.bpf.o -o json
  sluice bpf build --version v1.1.0              the step of sluice run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return step.RunE(cmd, nil)
			}
			format, err := cmd.Flags().GetString("output")
			if err != nil {
				return err
			}
			asJSON, err := (&options{format: format}).json()
			if err != nil {
				return err
			}
			if to == "" {
				to = strings.TrimSuffix(filepath.Base(args[0]), ".c") + ".o"
			}
			if dryRun {
				for _, argv := range compilerCalls(args[0], to, include) {
					fmt.Fprintln(cmd.OutOrStdout(), strings.Join(argv, " "))
				}
				return nil
			}
			spec, err := compileBPF(cmd.Context(), args[0], to, include)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), spec)
			}
			fmt.Fprintln(cmd.OutOrStdout(), objectLine(to, spec))
			return nil
		},
	}
	cmd.Flags().AddFlagSet(step.Flags())
	cmd.Flags().StringVar(&to, "to", "", "file to write (default: the source's name with .o, in this folder)")
	cmd.Flags().StringArrayVarP(&include, "include", "I", nil, "folder with headers (repeatable)")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with a source: print the compiler's command lines, and run nothing")
	return cmd
}

// compilerCalls are the command lines that make an object, to be run in the
// source's folder. No path of this machine and no version gets into it, so that it
// is the same everywhere.
func compilerCalls(source, to string, include []string) [][]string {
	compile := []string{bpfCompiler, "-fno-color-diagnostics", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-mcpu=v3"}
	for _, dir := range include {
		compile = append(compile, "-I"+dir)
	}
	// Debian keeps asm/types.h in a folder for each architecture.
	if dir := "/usr/include/" + map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH] + "-linux-gnu"; exists(dir) {
		compile = append(compile, "-I"+dir)
	}
	compile = append(compile, "-Wunused-command-line-argument", "-target", "bpfel", "-c", source, "-o", to,
		"-fno-ident", "-fdebug-compilation-dir", ".")
	return [][]string{compile, {bpfStrip, "-g", to}}
}

// fromFolder names folders and files as they are seen from the source's folder:
// their names get into the object.
func fromFolder(folder string, paths ...string) ([]string, error) {
	var out []string
	for _, p := range paths {
		if filepath.IsAbs(folder) != filepath.IsAbs(p) {
			var err error
			if p, err = filepath.Abs(p); err != nil {
				return nil, err
			}
			if folder, err = filepath.Abs(folder); err != nil {
				return nil, err
			}
		}
		p, err := filepath.Rel(folder, p)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// compileBPF compiles beside the wanted place and moves the object there when it
// turned out to be one.
func compileBPF(ctx context.Context, source, to string, include []string) (*bpf.Spec, error) {
	for _, tool := range []string{bpfCompiler, bpfStrip} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, &advised{fmt.Errorf("compiling %s: %w", source, err), "install the pinned compiler: apt-get install clang-19 llvm-19 libbpf-dev"}
		}
	}
	if !strings.HasSuffix(source, ".c") {
		return nil, fmt.Errorf("compiling %s: want a file that ends in .c", source)
	}
	ctx, cancel := context.WithTimeout(ctx, bpfCompileTime)
	defer cancel()
	temp, err := os.MkdirTemp(filepath.Dir(to), ".sluice-bpf-*")
	if err != nil {
		return nil, fmt.Errorf("compiling %s: %w", source, err)
	}
	defer os.RemoveAll(temp)
	made, err := filepath.Abs(filepath.Join(temp, "object.o"))
	if err != nil {
		return nil, fmt.Errorf("compiling %s: %w", source, err)
	}
	folder := filepath.Dir(source)
	if include, err = fromFolder(folder, include...); err != nil {
		return nil, fmt.Errorf("compiling %s: %w", source, err)
	}
	for _, argv := range compilerCalls(filepath.Base(source), made, include) {
		run := exec.CommandContext(ctx, argv[0], argv[1:]...)
		run.Dir = folder
		out, err := run.CombinedOutput()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("compiling %s: %w", source, ctx.Err())
		}
		if err != nil {
			return nil, compilerError(source, string(out), err)
		}
	}
	raw, spec, err := readObject(made)
	if err != nil {
		return nil, fmt.Errorf("compiling %s: %w", source, errors.Unwrap(err))
	}
	return spec, replaceFile(to, raw)
}

// compilerError says what the compiler said, and what is usually missing.
func compilerError(source, output string, err error) error {
	failed := fmt.Errorf("compiling %s: %w\n%s", source, err, strings.TrimSpace(output))
	switch {
	case strings.Contains(output, "bpf/bpf_"):
		return &advised{failed, "the headers of libbpf are missing: apt-get install libbpf-dev"}
	case strings.Contains(output, "file not found"):
		return &advised{failed, "name the folder of the header with -I"}
	}
	return failed
}
