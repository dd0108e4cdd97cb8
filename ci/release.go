package main

import (
	"context"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/outcome"
	"dagger/sluice/toolbox"
)

// Build compiles the service for every platform of sluice.yaml, stripped and reproducible. It returns a folder per platform, for example linux_amd64.
func (m *Sluice) Build(
	ctx context.Context,
	// Version that the binaries say they are
	// +default="v0.0.0"
	version string,
	// Only these platforms, for example linux/arm64 (default: all that sluice.yaml builds)
	// +optional
	platforms []string,
) (*dagger.Directory, error) {
	if err := command.CheckPlatforms(platforms); err != nil {
		return nil, err
	}
	ctr, err := m.sluice(toolbox.Compile, "build", version)
	if err != nil {
		return nil, err
	}
	bin := ctr.Directory(command.Release(version) + "/bin")
	if len(platforms) == 0 {
		return bin.Sync(ctx)
	}
	made, err := bin.Entries(ctx)
	if err != nil {
		return nil, err
	}
	include, err := command.Select(platforms, made)
	if err != nil {
		return nil, err
	}
	return bin.Filter(dagger.DirectoryFilterOpts{Include: include}), nil
}

// StripReport says what stripping saves on every platform.
func (m *Sluice) StripReport(
	ctx context.Context,
	// Version that the binaries say they are
	// +default="v0.0.0"
	version string,
	// Form of the report: text or json
	// +default="text"
	format string,
) (string, error) {
	return m.report(ctx, toolbox.Compile, "build", version, format, "--sizes")
}

// UpxTest packs every binary with UPX, tests and runs what came of it, and says which stay packed and why others do not.
func (m *Sluice) UpxTest(
	ctx context.Context,
	// Version that the binaries say they are
	// +default="v0.0.0"
	version string,
	// Form of the report: text or json
	// +default="text"
	format string,
) (string, error) {
	return m.report(ctx, toolbox.Pack, "pack", version, format)
}

// Reproduce builds everything twice, in different folders and with caches of their own, fails if a byte differs, and says what was reproduced.
// +check
func (m *Sluice) Reproduce(
	ctx context.Context,
	// Version that the binaries say they are
	// +default="v0.0.0"
	version string,
) (string, error) {
	ctr, err := m.sluice(toolbox.Compile, "build", version, "--verify-reproducible", "-o", "json")
	said, err := text(ctx, ctr, err)
	if err != nil {
		return "", err
	}
	return outcome.Summary(said, "build")
}

// Sbom writes down what is inside every binary and the probe object, as CycloneDX and SPDX.
func (m *Sluice) Sbom(
	// Version that the binaries say they are
	// +default="v0.0.0"
	version string,
) (*dagger.Directory, error) {
	ctr, err := m.sluice(toolbox.Pack, "sbom", version)
	if err != nil {
		return nil, err
	}
	return ctr.Directory(command.Release(version) + "/sbom"), nil
}

// Image assembles the multi-arch image and returns the one for the engine's platform. Nothing is sent to a registry.
func (m *Sluice) Image(
	// Version of the release, for example v1.2.3
	version string,
	// Out folder that publish or pipeline returned (default: a release is made)
	// +optional
	out *dagger.Directory,
) (*dagger.Container, error) {
	archive, err := command.Archive("/out", version, "/tmp/image.tar")
	if err != nil {
		return nil, err
	}
	if out == nil {
		ctr, err := m.sluice(toolbox.Pack, "publish", version, "--local", "--local-key") // its signatures go nowhere
		if err != nil {
			return nil, err
		}
		out = ctr.Directory("out")
	}
	tar := m.Base.
		WithMountedDirectory("/out", out).
		WithExec(archive).
		File("/tmp/image.tar")
	return dag.Container().Import(tar), nil
}

// Sign makes a release and signs all of it. It returns the out folder; without a key sluice makes one up in it.
func (m *Sluice) Sign(
	ctx context.Context,
	// Version of the release, for example v1.2.3
	version string,
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
) (*dagger.Directory, error) {
	ctr, err := m.signed(ctx, toolbox.Pack, signer{key, passphrase, publicKey, identityToken}, "sign", version)
	if err != nil {
		return nil, err
	}
	return ctr.Directory("out"), nil
}

// Policy asks the rules whether the release may go out, and fails if they deny it.
func (m *Sluice) Policy(
	ctx context.Context,
	// Version of the release
	// +default="v0.0.0"
	version string,
	// Form of the answer: text or json
	// +default="text"
	format string,
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
) (string, error) {
	form, err := command.Format(format)
	if err != nil {
		return "", err
	}
	ctr, err := m.signed(ctx, toolbox.Pack, signer{key, passphrase, publicKey, identityToken}, "policy", version, form...)
	return text(ctx, ctr, err)
}

// Verify checks a release that was made before: signatures, digests, SBOMs and image, offline.
func (m *Sluice) Verify(
	ctx context.Context,
	// Out folder that publish, run or canary returned; after sign alone the image has no tag yet, and is not found
	out *dagger.Directory,
	// Version of the release, for example v1.2.3
	version string,
	// Public key that it has to be signed with (default: the one in the out folder)
	// +optional
	publicKey *dagger.File,
) (string, error) {
	args, err := command.Step("verify", version)
	if err != nil {
		return "", err
	}
	ctr := m.workbench(toolbox.Compile).WithDirectory("out", out)
	if publicKey != nil {
		ctr = ctr.WithFile("out/keys/cosign.pub", publicKey)
	}
	return ctr.WithExec(args).Stdout(ctx)
}

// Release is what was published.
type Release struct {
	// Version of the release
	Version string
	// Digest of the image
	Image string
	// The release manifest, as JSON
	Manifest string
	// The out folder: verify, canary and gate take it
	Out *dagger.Directory
}

// Publish makes a release, proves it, and publishes it: into the registry of sluice.yaml, if it names one, and into the OCI layout of the out folder.
// +cache="session"
func (m *Sluice) Publish(
	ctx context.Context,
	// Version of the release, for example v1.2.3
	version string,
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
) (*Release, error) {
	args, err := command.Step("publish", version, "-o", "json")
	if err != nil {
		return nil, err
	}
	ctr, err := m.give(ctx, m.workbench(toolbox.Pack), signer{key, passphrase, publicKey, identityToken})
	if err != nil {
		return nil, err
	}
	ctr = fresh(credentials(ctr, registryConfig)).WithExec(args, privileges(toolbox.Pack))
	manifest, err := ctr.Stdout(ctx)
	if err != nil {
		return nil, err
	}
	r, err := outcome.ParseRelease(manifest)
	if err != nil {
		return nil, err
	}
	return &Release{Version: r.Version, Image: r.Image, Manifest: r.JSON, Out: ctr.Directory("out")}, nil
}
