package main

import (
	"errors"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/config"
)

// inCluster runs a command as sluice-argo does, which knows Kubernetes and Argo
// CD, if that is where the service runs; done is false if it runs elsewhere.
func inCluster(cmd *cobra.Command, cfg *config.Config, args ...string) (done bool, err error) {
	if cfg.Deploy.Target != "kubernetes" {
		return false, nil
	}
	path, err := exec.LookPath("sluice-argo")
	if err != nil {
		return true, &NoArgoError{Command: cmd.Name()}
	}
	run := exec.CommandContext(cmd.Context(), path, append([]string{cmd.Name()}, args...)...)
	run.Stdin, run.Stdout, run.Stderr = os.Stdin, cmd.OutOrStdout(), cmd.ErrOrStderr()
	err = run.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return true, &ArgoError{Command: cmd.Name(), Code: exit.ExitCode()}
	}
	return true, err
}

// NoArgoError means that the service runs in a cluster and the command for
// clusters is not installed.
type NoArgoError struct{ Command string }

func (e *NoArgoError) Error() string {
	return "deploy.target is kubernetes, and sluice-argo, which knows clusters, is not in PATH"
}

// Hint says how it is run.
func (e *NoArgoError) Hint() string {
	return "install sluice-argo, or run it where it is: sluice-argo " + e.Command + " --help"
}

// ArgoError means that sluice-argo ended with an error, which it has told.
type ArgoError struct {
	Command string
	Code    int
}

func (e *ArgoError) Error() string { return "sluice-argo " + e.Command + " did not succeed" }

// ExitCode is that of sluice-argo.
func (e *ArgoError) ExitCode() int { return e.Code }
