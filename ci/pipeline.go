package main

import (
	"context"
	"fmt"
	"time"

	"dagger/sluice/argocd"
	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/outcome"
	"dagger/sluice/toolbox"
)

// Run does everything for a version: build twice and compare, pack, SBOMs, image, sign, policy, publish, and a canary beside the stable version. The result of each step is a value.
// +cache="session"
func (m *Sluice) Run(
	ctx context.Context,
	// Version of the release, for example v1.2.0
	version string,
	// Version that serves before it: it is made for this, and published nowhere
	// +default="v0.0.0"
	stableVersion string,
	// Source of the stable version (default: the same source)
	// +optional
	stable *dagger.Directory,
	// NAME=VALUE for the new version
	// +optional
	env []string,
	// Where the requests go: deploy.local.listen of sluice.yaml
	// +default="http://127.0.0.1:8080/"
	url string,
	// Requests a second
	// +default=200
	rate int,
	// Private key (cosign.key), for example file:cosign.key
	// +optional
	key *dagger.Secret,
	// Passphrase of the key, for example env:SLUICE_PASSPHRASE
	// +optional
	passphrase *dagger.Secret,
	// Public key (cosign.pub)
	// +optional
	publicKey *dagger.File,
	// Token of the identity that signs (sign.keyless), for the audience sigstore, for example env:SIGSTORE_ID_TOKEN
	// +optional
	identityToken *dagger.Secret,
	// Credentials of the registry, in the form of ~/.docker/config.json
	// +optional
	registryConfig *dagger.Secret,
) (*Rollout, error) {
	started := time.Now()
	same, err := m.Reproduce(ctx, version)
	if err != nil {
		return nil, fmt.Errorf("building twice: %w", err)
	}
	reproduced := Step{Name: "reproduce", Status: "done", Summary: same, Seconds: time.Since(started).Seconds()}
	r, err := m.rollout(ctx, trial{
		Rollout: command.Rollout{Stable: stableVersion, Version: version, Env: env, URL: url, Rate: rate},
		source:  stable, by: signer{key, passphrase, publicKey, identityToken},
		publish: true, registry: registryConfig,
	})
	if err != nil {
		return nil, err
	}
	made, err := r.Out.File("publish.json").Contents(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what was published: %w", err)
	}
	rel, err := outcome.ParseRelease(made)
	if err != nil {
		return nil, err
	}
	r.Steps = append(append([]Step{reproduced}, steps(rel.Steps)...), r.Steps...)
	return r, nil
}

// Pipeline is run by its other name: the command of Dagger v0.21 hides a function of this name at the root, so there it is dagger call sluice pipeline.
// +cache="session"
func (m *Sluice) Pipeline(
	ctx context.Context,
	// Version of the release, for example v1.2.0
	version string,
	// Version that serves before it
	// +default="v0.0.0"
	stableVersion string,
	// Source of the stable version (default: the same source)
	// +optional
	stable *dagger.Directory,
	// NAME=VALUE for the new version
	// +optional
	env []string,
	// Where the requests go: deploy.local.listen of sluice.yaml
	// +default="http://127.0.0.1:8080/"
	url string,
	// Requests a second
	// +default=200
	rate int,
	// Private key (cosign.key), for example file:cosign.key
	// +optional
	key *dagger.Secret,
	// Passphrase of the key, for example env:SLUICE_PASSPHRASE
	// +optional
	passphrase *dagger.Secret,
	// Public key (cosign.pub)
	// +optional
	publicKey *dagger.File,
	// Token of the identity that signs (sign.keyless), for the audience sigstore, for example env:SIGSTORE_ID_TOKEN
	// +optional
	identityToken *dagger.Secret,
	// Credentials of the registry, in the form of ~/.docker/config.json
	// +optional
	registryConfig *dagger.Secret,
) (*Rollout, error) {
	return m.Run(ctx, version, stableVersion, stable, env, url, rate, key, passphrase, publicKey, identityToken, registryConfig)
}

// Synced is how an application of Argo CD ended.
type Synced struct {
	// Succeeded, Failed or Error: how the sync ended
	Phase string
	// What Argo CD says
	Message string
	// Commit that was synced
	Revision string
	// Verdict of the hooks of this sync; empty if it never came to one
	Verdict string
	// Why
	Reason string
	// Release that was judged
	Release string
	// Synced or OutOfSync
	Sync string
	// Healthy, Degraded …
	Health string
}

// Sync lets Argo CD sync an application and waits for the verdict. A sync of the same revision that is under way is joined, one of another is waited for. A sync that fails is a value, not an error; one that does not end in time is an error.
// +cache="never"
func (m *Sluice) Sync(
	ctx context.Context,
	// Application
	app string,
	// Argo CD, for example https://argocd.example.com
	server string,
	// Token of an account that may get and sync the application
	token *dagger.Secret,
	// Revision to sync to (default: the commit that the application asks for by now)
	// +optional
	revision string,
	// Namespace of the application
	// +optional
	namespace string,
	// Longest time
	// +default="10m"
	timeout string,
	// Who vouches for the server: a PEM file
	// +optional
	ca *dagger.File,
	// A way to the server, if the engine has none: tcp://localhost:8080
	// +optional
	via *dagger.Service,
) (*Synced, error) {
	limit, err := time.ParseDuration(timeout)
	if err != nil || limit <= 0 {
		return nil, fmt.Errorf("timeout %q is no duration (write 10m or 90s)", timeout)
	}
	secret, err := token.Plaintext(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading the token: %w", err)
	}
	opts := argocd.Options{Server: server, Token: secret}
	if ca != nil {
		if opts.CA, err = ca.Contents(ctx); err != nil {
			return nil, fmt.Errorf("reading the file of --ca: %w", err)
		}
	}
	if via != nil {
		if via, err = via.Start(ctx); err != nil {
			return nil, fmt.Errorf("starting the way to the server: %w", err)
		}
		defer via.Stop(context.WithoutCancel(ctx)) //nolint:errcheck // it ends with the session anyway
		if opts.Dial, err = via.Endpoint(ctx); err != nil {
			return nil, fmt.Errorf("finding the way to the server: %w", err)
		}
	}
	client, err := argocd.New(opts)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	end, err := client.Sync(ctx, argocd.Application{Name: app, Namespace: namespace}, revision)
	if err != nil {
		return nil, err
	}
	s := Synced(end)
	return &s, nil
}

// CheckConfig says everything that is wrong with sluice.yaml.
// +check
func (m *Sluice) CheckConfig(ctx context.Context) (string, error) {
	return m.workbench(toolbox.Compile).WithExec(command.CheckConfig()).Stdout(ctx)
}
