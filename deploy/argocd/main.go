// Command sluice-argo is what Sluice does in a cluster under Argo CD: the hooks of
// a sync, the manifests that they come with, and what an operator needs.
//
// Results go to stdout, everything else to stderr. The exit status is the
// verdict, as that of sluice: 0 pass, 1 fail, 2 usage, settings or rights, 3
// inconclusive, 4 no data, 5 measurement not to be trusted, 6 worth another try,
// 130 interrupted. The Job of a hook is repeated for the last two only.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/argocd/render"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the exit, for the tests.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "sluice-argo: %s\n", strings.TrimSuffix(line, "\n"))
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		fmt.Fprintf(stderr, "sluice-argo: hint: %s\n", hinted.Hint())
	}
	return hook.ExitCode(ctx, err)
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "sluice-argo",
		Short: "The canary as a phase of Argo CD's sync",
		Long: `Sluice-argo gives a release traffic while Argo CD syncs it, and only as long as
the gate agrees. It writes the manifests for that, runs as their hooks, and tells
an operator what is going on.`,
		Example: `  sluice-argo render -f sluice.yaml -o deploy/shop     the manifests of a service
  sluice-argo status                                   what serves, and what is on its way
  sluice-argo rollback                                 take it back, now`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       version(),
	}
	root.SetVersionTemplate("sluice-argo {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(render.Command(), hookCommand(), rollbackCommand(), forgetCommand(), statusCommand(), syncCommand(), driftCommand())
	return root
}

// version is that of this build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// asJSON reads the flag -o.
func asJSON(format string) (bool, error) {
	switch format {
	case "", "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, fmt.Errorf("unknown output %q (known: text, json)", format)
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
