package main

import (
	"context"
	"fmt"
	"time"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/toolbox"
)

const (
	workdir     = "/src"
	toolDir     = "/sluice"
	onPath      = "/usr/local/bin/sluice"
	goCache     = "/cache/go-build"
	registryDir = "/run/registry" // DOCKER_CONFIG, when there are credentials
)

// Command is the sluice command, built from source for the engine's platform.
func (m *Sluice) Command() *dagger.File {
	if m.Binary != nil {
		return m.Binary
	}
	return m.golang().
		WithMountedDirectory(toolDir, m.Tool).
		WithWorkdir(toolDir).
		WithEnvVariable("CGO_ENABLED", "0").
		WithExec(command.BuildSluice("/tmp/sluice")).
		File("/tmp/sluice")
}

// golang is the base image with Go's caches and where modules come from.
func (m *Sluice) golang() *dagger.Container {
	ctr := m.Base.
		WithEnvVariable("GOMODCACHE", "/go/pkg/mod").
		WithEnvVariable("GOCACHE", goCache).
		WithEnvVariable("GOTOOLCHAIN", "local").
		WithMountedCache("/go/pkg/mod", dag.CacheVolume("sluice-go-modules")).
		WithMountedCache(goCache, dag.CacheVolume("sluice-go-build"))
	if m.Certificates != nil {
		ctr = ctr.WithFile(toolbox.Certificates, m.Certificates)
	}
	if m.Modules != nil {
		ctr = ctr.WithMountedDirectory(toolbox.ModulesDir, m.Modules)
	}
	if proxy := toolbox.GoProxy(m.Modules != nil, m.Proxy); proxy != "" {
		ctr = ctr.WithEnvVariable("GOPROXY", proxy)
	}
	return ctr
}

// workbench has the tools of a job, the source, and the sluice command.
func (m *Sluice) workbench(job toolbox.Job) *dagger.Container {
	ctr := m.tools(m.golang(), job).
		WithDirectory(workdir, m.Source).
		WithWorkdir(workdir).
		WithFile(onPath, m.Command(), dagger.ContainerWithFileOpts{Permissions: 0o755})
	for _, v := range command.GitEnvironment() {
		ctr = ctr.WithEnvVariable(v.Name, v.Value)
	}
	if m.Commit != "" {
		ctr = ctr.WithoutDirectory(".git").WithNewFile(".git/HEAD", m.Commit+"\n").
			WithDirectory(".git/refs", dag.Directory())
	}
	return ctr.WithDirectory(".git/objects", dag.Directory())
}

// tools adds what a job needs and the image has not.
func (m *Sluice) tools(ctr *dagger.Container, job toolbox.Job) *dagger.Container {
	script := toolbox.Setup(job)
	if script == "" {
		return ctr
	}
	return ctr.
		WithMountedFile(toolbox.Script, m.Tool.File("tools/setup.sh")).
		WithExec([]string{"sh", "-euc", script}).
		WithoutMount(toolbox.Script)
}

// signer is who signs a release: a pair of keys of the caller's, an identity, or a
// pair that sluice makes up and keeps in the out folder.
type signer struct {
	private, passphrase *dagger.Secret
	public              *dagger.File
	token               *dagger.Secret
}

// give puts keys and token where sluice looks for them. The private key is no part
// of any folder that a function returns.
func (m *Sluice) give(ctx context.Context, ctr *dagger.Container, by signer) (*dagger.Container, error) {
	config, err := m.Source.File("sluice.yaml").Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading sluice.yaml: %w", err)
	}
	signing, err := command.ParseSigning(config)
	if err != nil {
		return nil, err
	}
	if err := signing.Check(command.Given{
		Key: by.private != nil, Passphrase: by.passphrase != nil, PublicKey: by.public != nil, Token: by.token != nil,
	}); err != nil {
		return nil, err
	}
	switch {
	case by.token != nil:
		return ctr.WithSecretVariable("SIGSTORE_ID_TOKEN", by.token), nil
	case by.private != nil:
		return ctr.
			WithFile("out/keys/cosign.pub", by.public).
			WithMountedSecret(signing.KeyFile(workdir), by.private).
			WithSecretVariable(signing.PassphraseEnv, by.passphrase), nil
	}
	return ctr, nil
}

// credentials are for the registry of sluice.yaml, in the form of ~/.docker/config.json.
func credentials(ctr *dagger.Container, registry *dagger.Secret) *dagger.Container {
	if registry == nil {
		return ctr
	}
	return ctr.
		WithEnvVariable("DOCKER_CONFIG", registryDir).
		WithMountedSecret(registryDir+"/config.json", registry)
}

// now is the time; tests stop it.
var now = time.Now

// fresh makes what follows run each time: what an engine, a network or a service
// said an hour ago is no answer today.
func fresh(ctr *dagger.Container) *dagger.Container {
	return ctr.WithEnvVariable("SLUICE_RUN", now().UTC().Format(time.RFC3339Nano))
}

// sluice runs a step for a version and returns the container afterwards.
func (m *Sluice) sluice(job toolbox.Job, step, version string, flags ...string) (*dagger.Container, error) {
	args, err := command.Step(step, version, flags...)
	if err != nil {
		return nil, err
	}
	return m.workbench(job).WithExec(args, privileges(job)), nil
}

// signed is sluice for steps that sign.
func (m *Sluice) signed(ctx context.Context, job toolbox.Job, by signer, step, version string, flags ...string) (*dagger.Container, error) {
	args, err := command.Step(step, version, flags...)
	if err != nil {
		return nil, err
	}
	ctr, err := m.give(ctx, m.workbench(job), by)
	if err != nil {
		return nil, err
	}
	return ctr.WithExec(args, privileges(job)), nil
}

func privileges(job toolbox.Job) dagger.ContainerWithExecOpts {
	return dagger.ContainerWithExecOpts{InsecureRootCapabilities: job.Privileged()}
}

// text is what a container printed.
func text(ctx context.Context, ctr *dagger.Container, err error) (string, error) {
	if err != nil {
		return "", err
	}
	return ctr.Stdout(ctx)
}

// report is what a step prints in a form: text or json.
func (m *Sluice) report(ctx context.Context, job toolbox.Job, step, version, format string, flags ...string) (string, error) {
	form, err := command.Format(format)
	if err != nil {
		return "", err
	}
	ctr, err := m.sluice(job, step, version, append(form, flags...)...)
	return text(ctx, ctr, err)
}

// attempt runs a command that may fail, and returns what came of it.
func attempt(ctx context.Context, ctr *dagger.Container, args []string) (*dagger.Container, int, error) {
	ctr = ctr.WithExec(args, dagger.ContainerWithExecOpts{
		Expect: dagger.ReturnTypeAny, InsecureRootCapabilities: true,
	})
	code, err := ctr.ExitCode(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("running %s: %w", args[0], err)
	}
	return ctr, code, nil
}
