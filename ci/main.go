// Sluice in a Dagger engine: the same steps as sluice run, on any machine.
//
// Every function builds the sluice command from source and runs it in a
// container; what is decided is decided there. Results are values: folders,
// files, containers, and verdicts with their reasons.
//
//	dagger call build --version v1.2.0 export --path bin
//	dagger call canary --stable-version v1.0.0 --version v1.1.0 verdict
//	dagger call --base golang:1.26 --go-proxy http://10.0.0.1:3000 run --version v1.2.0 verdict
//	dagger call --base-tarball golang.tar --go-modules ~/go/pkg/mod/cache/download build
//	dagger check
package main

import (
	"context"
	"errors"
	"fmt"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/toolbox"
)

// Sluice runs the sluice command in containers.
type Sluice struct {
	// +private
	Source *dagger.Directory
	// +private
	Tool *dagger.Directory
	// +private
	Binary *dagger.File
	// +private
	Base *dagger.Container
	// +private
	Modules *dagger.Directory
	// +private
	Certificates *dagger.File
	// +private
	Proxy string
	// +private
	Commit string
}

// New takes what all functions need.
func New(
	ctx context.Context,
	// Folder with sluice.yaml and the go.mod of the service; all of it goes along but history, out folders, and files that are called like secrets
	// +defaultPath="/"
	// +ignore=["out", "bin", "**/node_modules", "**/*.test", "**/*.prof", "**/cosign.key", "**/.env", "**/kubeconfig", ".git", "!.git/HEAD", "!.git/packed-refs", "!.git/refs"]
	source *dagger.Directory,
	// Source of the sluice command (default: this module's own repository)
	// +defaultPath="/"
	// +ignore=["*", "!go.mod", "!go.sum", "!app", "!bpf", "!cmd", "!deploy", "!internal", "!policies", "!sbom", "!tools", "deploy/argocd", "tools/cluster", "**/testdata"]
	tool *dagger.Directory,
	// The sluice command, if it is built already: bin/sluice (default: built from its source)
	// +optional
	binary *dagger.File,
	// Image with Go that everything runs in: a reference, for example of a mirror (default: Debian's golang image, pinned by digest)
	// +optional
	base *dagger.Container,
	// The same image as a tarball (docker save), for a machine without a network
	// +optional
	baseTarball *dagger.File,
	// Where Go modules come from, as GOPROXY
	// +optional
	goProxy string,
	// Go modules in a folder, instead of a proxy: $(go env GOMODCACHE)/cache/download
	// +optional
	goModules *dagger.Directory,
	// Certificate authorities for Go, and for the image that is made: a PEM file, for example /etc/ssl/certs/ca-certificates.crt (default: those of the base image)
	// +optional
	certificates *dagger.File,
	// Commit that release and image are labelled with (default: HEAD of the source, if it has a .git)
	// +optional
	commit string,
) (*Sluice, error) {
	version, err := dag.Version(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking the engine for its version: %w", err)
	}
	if err := command.CheckEngine(version); err != nil {
		return nil, err
	}
	if base != nil && baseTarball != nil {
		return nil, errors.New("--base and --base-tarball name two images: give one of them")
	}
	if err := command.CheckCommit(commit); err != nil {
		return nil, err
	}
	if err := has(ctx, source, "sluice.yaml", "--source=."); err != nil {
		return nil, err
	}
	if mods, err := source.Glob(ctx, "**/go.mod"); err != nil {
		return nil, fmt.Errorf("looking for go.mod in the source: %w", err)
	} else if len(mods) == 0 {
		return nil, errors.New("the source has no go.mod: give the folder of a Go module, for example --source=., or run go mod init in it")
	}
	if binary == nil {
		if err := has(ctx, tool, "cmd/sluice/main.go", "--tool with a checkout of Sluice, or --binary with the command"); err != nil {
			return nil, err
		}
	}
	switch {
	case baseTarball != nil:
		base = dag.Container().Import(baseTarball)
	case base == nil:
		base = dag.Container().From(toolbox.Base)
	}
	return &Sluice{Source: source, Tool: tool, Binary: binary, Base: base, Modules: goModules, Certificates: certificates, Proxy: goProxy, Commit: commit}, nil
}

// has says what would be right when a file is not in a folder.
func has(ctx context.Context, dir *dagger.Directory, file, right string) error {
	found, err := dir.Exists(ctx, file)
	if err != nil {
		return fmt.Errorf("looking for %s: %w", file, err)
	}
	if !found {
		return fmt.Errorf("there is no %s: give %s", file, right)
	}
	return nil
}
