package main

import (
	"context"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/toolbox"
)

// Lint checks the Go source with vet, and with gofumpt and staticcheck where tools/go.mod has them. For sluice.yaml there is check-config.
// +check
func (m *Sluice) Lint(ctx context.Context) (string, error) {
	return m.workbench(toolbox.Compile).
		WithEnvVariable("CGO_ENABLED", "0").
		WithExec(command.Lint()).
		Stdout(ctx)
}

// Test runs the tests of the source, as root of the engine: some load eBPF programs.
// +cache="never"
func (m *Sluice) Test(
	ctx context.Context,
	// Packages
	// +default=["./..."]
	packages []string,
	// Only tests that match this pattern
	// +optional
	run string,
	// With the race detector
	// +optional
	race bool,
) (string, error) {
	args, cgo := command.Test(packages, run, race)
	return fresh(m.workbench(toolbox.Test)).
		WithEnvVariable("CGO_ENABLED", cgo).
		WithExec(args, dagger.ContainerWithExecOpts{InsecureRootCapabilities: true}).
		Stdout(ctx)
}
