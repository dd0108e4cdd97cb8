package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/actions"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/release"
)

func runCommand() *cobra.Command {
	var o options
	var e executor
	cmd := rolloutCommand(&o, &e, pipeline.Main)
	e.add(cmd)
	cmd.Use = "run [-- service arguments]"
	cmd.Short = "Build, prove, publish and roll out a release: the main job"
	cmd.Long = `Run does the whole list: build, pack, bpf, sbom, image, sign, policy, publish,
load, canary, gate, promote or rollback, record. What has not changed since the
last time is not done again. The version that loses is drained and ended; the
version that wins keeps running when sluice has ended.

With --engine dagger the same list is done in a container of a Dagger engine that
runs already, with requests all the time, and the out folder comes back: release,
ledger and report are as they would be here, but nothing serves on this machine
(sluice deploy rolls the release out here). An engine is never downloaded.`
	cmd.Example = `  sluice run --version v1.1.0
  sluice run --version v1.2.0 --env SHOP_LATENCY=8ms     a slower one, to see it fail
  sluice run --version v1.1.0 --engine dagger            in a Dagger engine, with requests made up
  sluice run --version v1.2.0 -o json | jq .verdict`
	return cmd
}

func deployCommand() *cobra.Command {
	var o options
	cmd := rolloutCommand(&o, &executor{name: "local"}, pipeline.Deploy)
	cmd.Use = "deploy [-- service arguments]"
	cmd.Short = "Roll out a release that was published before: the second half of run"
	cmd.Long = `Deploy takes a release from the out folder as sluice publish left it there,
verifies its signature, every digest and the probe object, and rolls it out.`
	cmd.Example = `  sluice publish --version v1.1.0 && sluice deploy --version v1.1.0`
	return cmd
}

// rolloutCommand is a command that may end with a rollout.
func rolloutCommand(o *options, e *executor, steps func(pipeline.Job) ([]pipeline.Step, *pipeline.Rollout)) *cobra.Command {
	var reproduce, dryRun bool
	cmd := &cobra.Command{
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			j, err := o.job(cmd.Context(), args)
			if err != nil {
				return err
			}
			elsewhere, err := e.dagger(cmd)
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			j.Note, j.Verify = p.noting(), reproduce
			list, rollout := steps(j)
			rollout.OnLook = p.look
			if dryRun {
				return printPlan(cmd.OutOrStdout(), j, list)
			}
			if elsewhere && o.localKey {
				return errors.New("--local-key is for this machine: an engine signs with what sign in the file names")
			}
			if elsewhere {
				return e.run(cmd, *o, j, asJSON)
			}
			if err := cmp.Or(pipeline.CheckPrivileges(), makeFolder(j.Out)); err != nil {
				return err
			}
			runErr := pipeline.Run(cmd.Context(), list, p.event)
			return finish(cmd.OutOrStdout(), j, pipeline.ImageDigest(list), p, rollout, asJSON, runErr)
		},
	}
	o.addFile(cmd)
	o.addVersion(cmd)
	o.addFormat(cmd)
	o.addEnv(cmd)
	o.addKey(cmd)
	cmd.Flags().BoolVar(&reproduce, "verify-reproducible", false, "build everything twice, elsewhere, and compare byte for byte")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and do nothing")
	return cmd
}

// Outcome is the result of a run in JSON.
type Outcome struct {
	Version string           `json:"version"`
	Outcome string           `json:"outcome"`
	Verdict string           `json:"verdict"`
	Trigger string           `json:"trigger"`
	Reason  string           `json:"reason,omitempty"`
	Error   string           `json:"error,omitempty"`
	Image   string           `json:"image,omitempty"` // digest of the index, as soon as there is one
	Record  *release.Record  `json:"record,omitempty"`
	Steps   []pipeline.Event `json:"steps"`

	said string // of what is no rollout: the headline
}

// finish prints what a rollout came to.
func finish(w io.Writer, j pipeline.Job, image string, p *progress, r *pipeline.Rollout, asJSON bool, runErr error) error {
	out := recorded(r.Record, p.Events)
	out.Version, out.Image = j.Version, cmp.Or(out.Image, image)
	if r.Serving {
		out.Reason = j.Version + " serves already"
	}
	if runErr != nil {
		out.Error = runErr.Error()
	}
	runErr = errors.Join(runErr, publishOutcome(actions.New(os.Getenv, os.Stderr), j.Config.Name, out))
	if asJSON {
		return errors.Join(printJSON(w, out), runErr)
	}
	switch {
	case r.Record != nil:
		fmt.Fprintf(w, "%s %s %s%s\n", j.Config.Name, j.Version, out.Outcome, because(out))
	case r.Serving:
		fmt.Fprintf(w, "%s %s serves already\n", j.Config.Name, j.Version)
	}
	return runErr
}

// recorded is the outcome of a rollout as the ledger has it; rec may be nil.
func recorded(rec *release.Record, steps []pipeline.Event) Outcome {
	out := Outcome{Steps: steps, Record: rec}
	if rec != nil {
		out.Version, out.Image = rec.Version, rec.Image
		out.Outcome, out.Verdict, out.Trigger, out.Reason = string(rec.Outcome), rec.Verdict, string(rec.Trigger), rec.Reason
	}
	return out
}

// because is why a release was not promoted, in a few words.
func because(o Outcome) string {
	text := ""
	if o.Verdict != "" {
		text = ": " + o.Verdict
	}
	if o.Trigger != "" {
		text += " (" + o.Trigger + ")"
	}
	if rec := o.Record; rec != nil && rec.BreachToTrafficMS != nil && *rec.BreachToTrafficMS > 0 {
		text += fmt.Sprintf(", traffic was back %.1f s after the first bad request", float64(*rec.BreachToTrafficMS)/1000)
	}
	return text
}

func printPlan(w io.Writer, j pipeline.Job, steps []pipeline.Step) error {
	fmt.Fprintf(w, "would release %s %s into %s:\n", j.Config.Name, j.Version, j.Out)
	for _, s := range steps {
		fmt.Fprintf(w, "  %s\n", s)
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func publishCommand() *cobra.Command {
	cmd := stepCommand("publish", "Make a release and publish it: the first half of run")
	cmd.Example = `  sluice publish --version v1.1.0              into the OCI layout out/oci
  sluice publish --version v1.1.0 --local      there only, whatever publish.registry says
  sluice publish --version v1.1.0-try.1 --local --local-key   to try it, signed by nobody in particular
  sluice publish --version v1.1.0 -o json`
	return cmd
}

// stepFlags are what some steps have besides.
type stepFlags struct{ reproduce, sizes, local bool }

func (f *stepFlags) add(cmd *cobra.Command, name string) {
	flags := cmd.Flags()
	if name == "build" || name == "pack" {
		flags.BoolVar(&f.sizes, "sizes", false, "link everything once more, unstripped, to report what stripping saves")
	}
	switch name {
	case "build":
		flags.BoolVar(&f.reproduce, "verify-reproducible", false, "build everything twice, elsewhere, and compare byte for byte")
	case "publish":
		flags.BoolVar(&f.local, "local", false, "only into the OCI layout of the out folder: send nothing to publish.registry")
	}
}

func (f *stepFlags) apply(j *pipeline.Job) {
	j.Verify, j.Sizes = f.reproduce, f.sizes
	if f.local {
		j.Config.Publish.Registry = ""
	}
}

// stepCommands are the steps that can be run alone. Each does the ones that it
// builds on first; what has not changed is not done again.
func stepCommands() []*cobra.Command {
	return []*cobra.Command{
		stepCommand("build", "Compile the service for every platform"),
		stepCommand("pack", "Compress the binaries with UPX where that is worth it"),
		bpfCommand(),
		sbomCommand(),
		stepCommand("image", "Assemble the multi-arch image"),
		stepCommand("sign", "Sign binaries, SBOMs, probe object, manifest and image"),
		stepCommand("policy", "Ask the rules whether the release may go out"),
	}
}

func sbomCommand() *cobra.Command {
	cmd := stepCommand("sbom", "Write down what is inside every binary and the probe object")
	cmd.AddCommand(sbomDiffCommand())
	return cmd
}

func stepCommand(name, short string) *cobra.Command {
	var o options
	var flags stepFlags
	cmd := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs,
		Example: fmt.Sprintf("  sluice %s --version v1.1.0\n  sluice %s --version v1.1.0 -o json", name, name),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := o.json()
			if err != nil {
				return err
			}
			j, err := o.job(cmd.Context(), nil)
			if err != nil {
				return err
			}
			p := newProgress(cmd.ErrOrStderr())
			j.Note = p.noting()
			flags.apply(&j)
			if err := makeFolder(j.Out); err != nil {
				return err
			}
			steps, _ := pipeline.Until(pipeline.Release(j), name)
			return runSteps(cmd.Context(), cmd.OutOrStdout(), j, steps, p, asJSON)
		},
	}
	o.addFile(cmd)
	o.addVersion(cmd)
	o.addFormat(cmd)
	if name == "sign" || name == "policy" || name == "publish" {
		o.addKey(cmd)
	}
	flags.add(cmd, name)
	return cmd
}

// runSteps runs steps of the first half; in JSON the last one is printed with
// what it made.
func runSteps(ctx context.Context, w io.Writer, j pipeline.Job, steps []pipeline.Step, p *progress, asJSON bool) error {
	last := steps[len(steps)-1]
	err := pipeline.Run(ctx, steps, p.event)
	out := Outcome{Version: j.Version, Image: pipeline.ImageDigest(steps), Steps: p.Events, said: last.String() + ": done"}
	if err != nil {
		out.Error, out.said = err.Error(), last.String()+": failed"
	}
	err = errors.Join(err, publishOutcome(actions.New(os.Getenv, os.Stderr), j.Config.Name, out))
	if !asJSON {
		return errors.Join(printSizes(w, pipeline.Made(last)), err)
	}
	return errors.Join(printJSON(w, map[string]any{"steps": p.Events, "result": pipeline.Made(last)}), err)
}
