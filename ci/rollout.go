package main

import (
	"context"

	"dagger/sluice/command"
	"dagger/sluice/internal/dagger"
	"dagger/sluice/outcome"
	"dagger/sluice/toolbox"
)

const reports = "/tmp/report"

// Rollout is what became of a version.
type Rollout struct {
	// Version that was rolled out
	Version string
	// promoted, rolled-back or refused
	Outcome string
	// pass, fail, inconclusive, no-data, invalid, or broken if it never came to one
	Verdict string
	// Why, in a sentence
	Reason string
	// Exit status of sluice
	Status int
	// Every step with its result
	Steps []Step
	// The out folder: ledger, samples and reports
	Out *dagger.Directory
	// What the command printed
	Log string
}

// Step is one step of a run.
type Step struct {
	Name    string
	Status  string
	Summary string
	Seconds float64
}

func steps(list []outcome.Step) []Step {
	out := make([]Step, len(list))
	for i, s := range list {
		out[i] = Step(s)
	}
	return out
}

// Canary rolls a version out beside a stable one in the engine, with requests all the time: the probe measures both, the gate judges, and the version is promoted or rolled back. Nothing is sent to a registry. It runs as root of the engine. A verdict that is no pass is a value, not an error.
// +cache="session"
func (m *Sluice) Canary(
	ctx context.Context,
	// Version that serves first, for example v1.0.0
	stableVersion string,
	// Version that is rolled out, for example v1.1.0
	version string,
	// Source of the stable version (default: the same source)
	// +optional
	stable *dagger.Directory,
	// NAME=VALUE for the new version, for example SHOP_LATENCY=50ms, to see it fail
	// +optional
	env []string,
	// NAME=VALUE for the stable version
	// +optional
	stableEnv []string,
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
) (*Rollout, error) {
	return m.rollout(ctx, trial{
		Rollout: command.Rollout{Stable: stableVersion, Version: version, StableEnv: stableEnv, Env: env, URL: url, Rate: rate},
		source:  stable, by: signer{key, passphrase, publicKey, identityToken},
	})
}

// trial is a version that is made and rolled out beside a stable one.
type trial struct {
	command.Rollout
	source   *dagger.Directory // of the stable version; nil: the same
	by       signer
	publish  bool           // to the registry of sluice.yaml, if it names one
	registry *dagger.Secret // credentials of that
}

// rollout makes both versions and rolls one out. The stable one is made up for the
// occasion, so it goes to no registry.
func (m *Sluice) rollout(ctx context.Context, t trial) (*Rollout, error) {
	args, err := t.Canary(reports)
	if err != nil {
		return nil, err
	}
	publish, err := command.Step("publish", t.Version, "-o", "json")
	if err != nil {
		return nil, err
	}
	first := *m
	if t.source != nil {
		first.Source = t.source
	}
	before, err := first.signed(ctx, toolbox.Pack, t.by, "publish", t.Stable, "--local")
	if err != nil {
		return nil, err
	}
	ctr, err := m.give(ctx, m.workbench(toolbox.Serve).WithDirectory("out", before.Directory("out")), t.by)
	if err != nil {
		return nil, err
	}
	if t.publish {
		ctr = fresh(credentials(ctr, t.registry))
	} else {
		publish = append(publish, "--local")
	}
	ctr = ctr.WithExec(publish, dagger.ContainerWithExecOpts{
		InsecureRootCapabilities: true, RedirectStdout: "out/publish.json",
	})
	return m.judged(ctx, fresh(ctr), args, t.Version)
}

// judged runs a rollout and reads what came of it.
func (m *Sluice) judged(ctx context.Context, ctr *dagger.Container, args []string, version string) (*Rollout, error) {
	ctr, status, err := attempt(ctx, ctr, args)
	if err != nil {
		return nil, err
	}
	log, err := ctr.Stderr(ctx)
	if err != nil {
		return nil, err
	}
	r := &Rollout{Version: version, Verdict: outcome.Verdict(status), Status: status, Log: log, Out: ctr.Directory("out")}
	result, err := ctr.File(reports + "/canary.json").Contents(ctx)
	if err != nil { // it never came to a rollout: the log says why
		r.Reason = "the rollout did not begin: see log"
		return r, nil
	}
	res, err := outcome.ParseRollout(result)
	if err != nil {
		return nil, err
	}
	r.Outcome, r.Steps = res.Outcome, steps(res.Steps)
	r.Reason = res.Reason
	if res.Error != "" {
		r.Reason = res.Error
	}
	if res.Verdict != "" {
		r.Verdict = res.Verdict
	}
	return r, nil
}

// Gate judges a recorded rollout again, from the samples in an out folder. A verdict that is no pass is an error, as it is for sluice gate.
func (m *Sluice) Gate(
	ctx context.Context,
	// Out folder that canary or pipeline returned
	out *dagger.Directory,
	// Judge the newest rollout of this version (default: the newest of all)
	// +optional
	version string,
	// Judge by the settings in sluice.yaml instead of those recorded
	// +optional
	asConfigured bool,
) (string, error) {
	args, err := command.Gate(version, asConfigured)
	if err != nil {
		return "", err
	}
	return m.workbench(toolbox.Compile).WithDirectory("out", out).WithExec(args).Stdout(ctx)
}

// Rollback goes back to the version before, or to a named one, in the engine, and returns the out folder with the ledger that says so.
// +cache="session"
func (m *Sluice) Rollback(
	// Out folder that canary or pipeline returned
	out *dagger.Directory,
	// Version to go back to (default: the one before)
	// +optional
	to string,
) (*dagger.Directory, error) {
	args, err := command.Rollback(to)
	if err != nil {
		return nil, err
	}
	return fresh(m.workbench(toolbox.Serve).WithDirectory("out", out)).
		WithExec(args, dagger.ContainerWithExecOpts{InsecureRootCapabilities: true}).
		Directory("out"), nil
}
