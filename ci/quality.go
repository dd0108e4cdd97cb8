package main

import (
	"context"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/toolbox"
)

// Lint checks sluice.yaml, and the Go source with vet; where tools/go.mod has them, with gofumpt and staticcheck, too.
// +check
func (m *Sluice) Lint(ctx context.Context) (string, error) {
	return m.workbench(toolbox.Compile).
		WithEnvVariable("CGO_ENABLED", "0").
		WithExec(command.Lint()).
		Stdout(ctx)
}

// Test runs the tests of the source, as root of the engine: some load eBPF programs.
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
	return m.workbench(toolbox.Test).
		WithEnvVariable("CGO_ENABLED", cgo).
		WithExec(args, dagger.ContainerWithExecOpts{InsecureRootCapabilities: true}).
		Stdout(ctx)
}
