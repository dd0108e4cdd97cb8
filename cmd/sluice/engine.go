package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/engine"
	"github.com/sluice-cd/sluice/internal/engine/command"
	"github.com/sluice-cd/sluice/internal/image"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/release"
)

// executor says where sluice run does its work.
type executor struct {
	name   string
	base   string
	proxy  string
	binary string
	url    string
	rate   int
}

func (e *executor) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&e.name, "engine", "local", "where the steps run: local, this machine, or dagger, in a container of a Dagger engine")
	f.StringVar(&e.base, "engine-base", "", "image with Go for the engine, or a tarball of one (.tar) (default: Debian's, pinned by digest)")
	f.StringVar(&e.proxy, "engine-goproxy", "", "where the engine gets Go modules, as GOPROXY; file:///folder is sent (default: what the image says)")
	f.StringVar(&e.binary, "engine-binary", "", "the sluice command for the engine (default: this one)")
	f.StringVar(&e.url, "engine-url", "", "where requests go in the engine (default: deploy.local.listen)")
	f.IntVar(&e.rate, "engine-rate", 200, "requests a second in the engine")
}

// dagger tells whether a Dagger engine does the work.
func (e *executor) dagger(cmd *cobra.Command) (bool, error) {
	switch e.name {
	case "dagger":
		return true, nil
	case "local":
		for _, name := range []string{"engine-base", "engine-goproxy", "engine-binary", "engine-url", "engine-rate"} {
			if cmd.Flags().Changed(name) {
				return false, fmt.Errorf("--%s is for an engine: give --engine dagger, too", name)
			}
		}
		return false, nil
	}
	return false, fmt.Errorf("unknown engine %q (known: local, dagger)", e.name)
}

// run does the job in an engine and prints what came of it.
func (e *executor) run(cmd *cobra.Command, o options, j pipeline.Job, asJSON bool) error {
	ctx := cmd.Context()
	st, err := local.Look(j.Config.Name)
	if err != nil {
		return err
	}
	if st.Version != "" && st.Out == j.Out {
		return &servesHereError{Name: j.Config.Name, Version: st.Version, Out: o.out}
	}
	job, err := e.job(ctx, o, j)
	if err != nil {
		return err
	}
	if _, err := engine.Find(ctx); err != nil { // before anything is written
		return err
	}
	if err := makeFolder(j.Out); err != nil {
		return err
	}
	ledger, err := release.OpenLedger(filepath.Join(j.Out, "ledger.jsonl")) // nobody else writes it meanwhile
	if err != nil {
		return err
	}
	defer ledger.Close() //nolint:errcheck // nothing was written to it
	var remove func()
	if job.CA, remove, err = certificates(); err != nil {
		return err
	}
	defer remove()
	log := cmd.ErrOrStderr()
	if all, _ := cmd.Flags().GetBool("verbose"); !all {
		log = engine.Steps(log)
	}
	begin := time.Now()
	result, err := inEngine(ctx, log, job)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "sluice: the engine was done after %.1f s\n", time.Since(begin).Seconds())
	return e.finish(cmd.OutOrStdout(), j, result, asJSON)
}

// certificates writes the certificate authorities of this machine to a file: the
// image that an engine makes has the same as one that is made here.
func certificates() (path string, remove func(), err error) {
	bundle, _, err := image.CABundle("")
	if err != nil {
		return "", nil, err
	}
	dir, err := os.MkdirTemp("", "sluice-engine-")
	if err != nil {
		return "", nil, fmt.Errorf("making a folder for the engine: %w", err)
	}
	remove = func() { _ = os.RemoveAll(dir) }
	path = filepath.Join(dir, "ca-certificates.crt")
	if err := os.WriteFile(path, bundle, 0o644); err != nil {
		remove()
		return "", nil, fmt.Errorf("writing the certificates for the engine: %w", err)
	}
	return path, remove, nil
}

// inEngine is one session, from the connection to its end.
func inEngine(ctx context.Context, log io.Writer, job engine.Job) (_ engine.Result, err error) {
	session, err := engine.Open(ctx, log)
	if err != nil {
		return engine.Result{}, err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	return session.Run(ctx, job)
}

// servesHereError means that the ledger belongs to what runs on this machine: a
// run in an engine would enter a version that serves nobody here.
type servesHereError struct{ Name, Version, Out string }

func (e *servesHereError) Error() string {
	return fmt.Sprintf("%s %s serves on this machine by the ledger in %s, and nothing that an engine runs serves here", e.Name, e.Version, e.Out)
}

func (e *servesHereError) Hint() string {
	return "give the engine a folder of its own (--out out-dagger), or stop the service (sluice down)"
}

// job is what an engine is given.
func (e *executor) job(ctx context.Context, o options, j pipeline.Job) (engine.Job, error) {
	root, file, err := sourceRoot(j.Config)
	if err != nil {
		return engine.Job{}, err
	}
	job := engine.Job{
		Source: root, Out: j.Out, Binary: e.binary, Foreign: e.binary != "", Commit: j.Commit, Base: e.base, GoProxy: e.proxy,
		Run: time.Now().UTC().Format(time.RFC3339Nano),
		Rollout: command.Rollout{
			Version: j.Version, Args: j.Args, Reproduce: j.Verify, URL: e.url, Rate: e.rate,
		},
	}
	if file != "sluice.yaml" {
		job.Rollout.File = file
	}
	for name, value := range j.Env {
		job.Rollout.Env = append(job.Rollout.Env, name+"="+value)
	}
	slices.Sort(job.Rollout.Env)
	if job.Rollout.URL == "" {
		job.Rollout.URL = "http://" + j.Config.Deploy.Local.Listen.String() + "/"
	}
	if rel, err := filepath.Rel(root, j.Out); err == nil && filepath.IsLocal(rel) {
		job.Exclude = append(job.Exclude, filepath.ToSlash(rel))
	}
	if job.Binary == "" {
		if job.Binary, err = os.Executable(); err != nil {
			return job, fmt.Errorf("finding the sluice command: %w", err)
		}
	}
	for _, f := range []*string{&job.Binary, &job.Base} {
		if *f == "" || f == &job.Base && !strings.HasSuffix(*f, ".tar") {
			continue
		}
		if *f, err = filepath.Abs(*f); err == nil {
			_, err = os.Stat(*f)
		}
		if err != nil {
			return job, fmt.Errorf("looking for what the engine needs: %w", err)
		}
	}
	if err := keysFor(&job, root, j); err != nil {
		return job, err
	}
	job.Docker, err = credentials(ctx, j.Config.Publish.Registry)
	return job, err
}

// sourceRoot is the folder that holds both the configuration and the module of
// the service, and the configuration in it.
func sourceRoot(cfg *config.Config) (root, file string, err error) {
	path, err := filepath.Abs(cfg.File())
	if err != nil {
		return "", "", fmt.Errorf("finding the source: %w", err)
	}
	root = filepath.Dir(path)
	module, err := filepath.Abs(cfg.Build.Dir)
	if err != nil {
		return "", "", fmt.Errorf("finding the source: %w", err)
	}
	if rel, err := filepath.Rel(module, root); err == nil && filepath.IsLocal(rel) {
		root = module
	}
	if rel, err := filepath.Rel(root, module); err != nil || !filepath.IsLocal(rel) {
		return "", "", cfg.Complaint("build.dir", "is neither below nor above the folder of this file, so an engine cannot be given both")
	}
	for dir := module; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		if dir == root {
			return "", "", cfg.Complaint("build.dir", "has no go.mod: name the folder of a Go module, or run go mod init in it")
		}
	}
	if file, err = filepath.Rel(root, path); err != nil {
		return "", "", fmt.Errorf("finding the source: %w", err)
	}
	return root, filepath.ToSlash(file), nil
}

// engineError is how a run in an engine ended that promoted nothing.
type engineError struct {
	text   string
	status int
}

func (e *engineError) Error() string { return e.text }

func (e *engineError) ExitCode() int { return e.status }

// finish prints what a run in an engine came to, as it would be here.
func (e *executor) finish(w io.Writer, j pipeline.Job, r engine.Result, asJSON bool) error {
	var failed error
	if r.Status != 0 {
		failed = &engineError{r.Problem(), r.Status}
	}
	if len(r.Report) == 0 {
		return failed
	}
	var out Outcome
	if err := json.Unmarshal(r.Report, &out); err != nil {
		return errors.Join(failed, fmt.Errorf("reading the result of the engine: %w", err))
	}
	if out.Error != "" && failed != nil {
		failed = &engineError{out.Error, r.Status}
	}
	for i, s := range out.Steps {
		out.Steps[i].Took = time.Duration(s.Seconds * float64(time.Second))
	}
	failed = errors.Join(failed, publishOutcome(actions.New(os.Getenv, os.Stderr), j.Config.Name, out))
	if asJSON {
		return errors.Join(printJSON(w, out), failed)
	}
	if out.Record != nil {
		fmt.Fprintf(w, "%s %s %s%s\n", j.Config.Name, j.Version, out.Outcome, because(out))
	}
	return failed
}
