package render

import (
	"bytes"
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/config"
)

// Command is sluice-argo render: it reads sluice.yaml and what was rendered
// before, and writes a folder or compares with it.
func Command() *cobra.Command {
	var r run
	cmd := &cobra.Command{
		Use: "render", Short: "Write the manifests of a service for Argo CD", Args: cobra.NoArgs,
		Long: `Render writes what Argo CD needs to release the service of sluice.yaml: manifests,
the hooks of a sync, an Application; and what a cluster needs once: the probe on
every node, alerts, a dashboard. The README.md among them says what to do with it.

Images of the hooks and the probe, the public key, the release that is deployed, and
what was said of nodes and Argo CD are kept from what was rendered before: they have to
be given the first time only.`,
		Example: `  sluice-argo render --hook-image registry.example.com/sluice/sluice-argo:1.0.0@sha256:… \
      --probe-image registry.example.com/sluice/sluice-probe:1.0.0@sha256:… --key cosign.pub
  sluice-argo render --check          in CI: was everything rendered and committed?`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			said, err := r.run()
			if err == nil {
				fmt.Fprintln(cmd.OutOrStdout(), said)
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.file, "file", "f", "sluice.yaml", "configuration")
	f.StringVarP(&r.dir, "output", "o", "", "folder to write to (default: deploy.argocd.path)")
	f.BoolVar(&r.check, "check", false, "write nothing, and fail if the folder is not what would be written")
	f.StringVar(&r.o.Only, "only", "", "write one half: service (its own manifests, hooks, Application) or cluster (the probe and its monitoring, for all services)")
	f.StringVar(&r.o.HookImage, "hook-image", "", "image of sluice-argo, with its digest")
	f.StringVar(&r.o.ProbeImage, "probe-image", "", "image of sluice-probe, with its digest")
	f.StringVar(&r.o.Release, "release", "", "image of the service, with its digest (default: none; kustomize edit set image sets it)")
	f.StringVar(&r.key, "key", "", "public key that releases are signed with (default: sign.public_key)")
	f.StringVar(&r.o.InstanceLabel, "instance-label", "", "application.instanceLabelKey of Argo CD, by which policies know what a sync writes (default: "+instanceKey+")")
	f.StringVar(&r.o.Cgroup, "cgroup", "", "where nodes have their version 2 control groups (default: "+cgroupRoot+")")
	f.StringVar(&r.o.Seccomp, "seccomp", "", "seccomp profile of the probe, a file below the kubelet's folder seccomp on every node (default: that of the container runtime)")
	return cmd
}

// run is one call of the command.
type run struct {
	file, dir, key string
	check          bool
	o              Options
}

// run returns what was done.
func (r *run) run() (string, error) {
	cfg, err := config.Read(r.file)
	if err != nil {
		return "", err
	}
	r.dir = cmp.Or(r.dir, filepath.FromSlash(cfg.Deploy.ArgoCD.Path), ".")
	before, err := recall(r.dir, cfg)
	if err != nil {
		return "", err
	}
	r.o.HookImage = cmp.Or(r.o.HookImage, before.HookImage)
	r.o.ProbeImage = cmp.Or(r.o.ProbeImage, before.ProbeImage)
	r.o.Release = cmp.Or(r.o.Release, before.Release)
	r.o.Cgroup = cmp.Or(r.o.Cgroup, before.Cgroup)
	r.o.Seccomp = cmp.Or(r.o.Seccomp, before.Seccomp)
	r.o.InstanceLabel = cmp.Or(r.o.InstanceLabel, before.InstanceLabel)
	r.o.PublicKey = before.PublicKey
	if err := r.read(cfg); err != nil {
		return "", err
	}
	files, err := Render(cfg, r.o)
	if err != nil {
		return "", err
	}
	stale, err := compare(r.dir, files, r.o.folders())
	switch {
	case err != nil:
		return "", err
	case r.check && len(stale) > 0:
		return "", &StaleError{Dir: r.dir, Files: stale}
	case r.check:
		return fmt.Sprintf("%d files in %s are as they would be written", len(files), r.dir), nil
	}
	said := fmt.Sprintf("%d files in %s, %d of them changed", len(files), r.dir, len(stale))
	if slices.ContainsFunc(stale, func(name string) bool { return strings.HasPrefix(name, setupDir+"/") }) {
		said += "; " + setupDir + " is yours to apply: kubectl apply -k " + filepath.Join(r.dir, setupDir)
	}
	return said, update(r.dir, files, stale)
}

// read fills in what comes from files: sluice.yaml itself, the key, rules.
func (r *run) read(cfg *config.Config) (err error) {
	if r.o.Config, err = os.ReadFile(r.file); err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	key := cmp.Or(r.key, cfg.Sign.PublicKey)
	switch {
	case cfg.Sign.Keyless.Given() && key != "":
		return &OptionError{Text: "--key is given, but sign.keyless says that an identity signs", Advice: "leave --key out"}
	case cfg.Sign.Keyless.Given():
		if r.o.TrustedRoot, err = os.ReadFile(cfg.Sign.Keyless.TrustedRoot); err != nil {
			return fmt.Errorf("reading the trusted root: %w", err)
		}
	case key != "":
		if r.o.PublicKey, err = os.ReadFile(key); err != nil {
			return fmt.Errorf("reading the public key: %w", err)
		}
	}
	r.o.Rules, err = rules(cfg, filepath.Dir(r.file))
	return err
}

// rules reads the Rego files of policy.dirs; their names are relative to dir.
func rules(cfg *config.Config, dir string) (map[string][]byte, error) {
	found := map[string][]byte{}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding the folder of the configuration: %w", err)
	}
	for i, d := range cfg.Policy.Dirs {
		err := filepath.WalkDir(d, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".rego") {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			found[filepath.ToSlash(name)], err = os.ReadFile(path)
			return err
		})
		if err != nil {
			return nil, cfg.Complaint(fmt.Sprintf("policy.dirs[%d]", i), "%v", err)
		}
	}
	return found, nil
}

// StaleError means that a folder is not what would be rendered.
type StaleError struct {
	Dir   string
	Files []string // each with what is wrong with it
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s is not what sluice-argo render writes: %s", e.Dir, strings.Join(e.Files, ", "))
}

// Hint says how to make it so.
func (e *StaleError) Hint() string {
	return "run sluice-argo render without --check and commit; settings of your own belong in a kustomization that has this folder as a resource"
}

// written reports whether a file was rendered, and not made by a person.
func written(content []byte) bool {
	return bytes.HasPrefix(content, []byte(header)) || bytes.HasPrefix(content, []byte("<!-- Written by sluice-argo render."))
}
