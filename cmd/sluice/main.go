// Command sluice builds a Go service for every platform, proves what it built,
// and rolls it out beside the version that serves, judged by an eBPF probe.
//
// Results go to stdout, everything else to stderr. The exit status is the
// verdict: 0 pass, 1 fail, 2 usage or configuration, 3 inconclusive, 4 no data,
// 5 measurement not to be trusted, 6 worth another try, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/sandbox"
)

func main() {
	if sandbox.Reexec() {
		return // this process was a sandbox for a binary that is tried
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the exit, for the tests.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	command, err := root.ExecuteContextC(ctx)
	if file, _ := root.PersistentFlags().GetString("sarif"); file != "" {
		err = errors.Join(err, writeSARIF(file, configurationOf(command), err))
	}
	if err == nil {
		return 0
	}
	annotate(actions.New(os.Getenv, stderr), err)
	fmt.Fprint(stderr, message(err))
	var refused *bpf.LoadError
	if verbose, _ := root.PersistentFlags().GetBool("verbose"); verbose && errors.As(err, &refused) {
		fmt.Fprintln(stderr, strings.Join(refused.Log, "\n"))
	}
	if hint := hintOf(err); hint != "" {
		fmt.Fprintf(stderr, "sluice: hint: %s\n", hint)
	}
	return exitCode(ctx, err)
}

// configurationOf is the file that a command was given with --file.
func configurationOf(command *cobra.Command) string {
	if file := command.Flags().Lookup("file"); file != nil && file.Value.String() != "" {
		return file.Value.String()
	}
	return "sluice.yaml"
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice",
		Short: "Build, prove and roll out a Go service, judged by the kernel",
		Long: `Sluice builds a Go service for every platform, proves what it built, and rolls
it out beside the version that serves. An eBPF probe measures every request of
both; the new version is promoted only when the evidence says it is not worse.`,
		Example: `  sluice run --version v1.0.0        build, sign, publish, roll out
  sluice history                     what was rolled out, and how it ended
  sluice rollback                    back to the version before
  sluice doctor                      what this machine can and cannot do`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	root.SetVersionTemplate("sluice {{.Version}}\n")
	root.PersistentFlags().Bool("verbose", false, "print all that the eBPF verifier says when it refuses a program, and all that an engine reports")
	root.PersistentFlags().String("sarif", "", "write what is wrong to this `file` too, for code scanning (SARIF 2.1.0)")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(runCommand(), publishCommand(), deployCommand())
	root.AddCommand(stepCommands()...)
	root.AddCommand(verifyCommand(), gateCommand(), rollbackCommand(), historyCommand(), statusCommand(), downCommand(),
		checkCommand(), doctorCommand(), loadCommand())
	return root
}
