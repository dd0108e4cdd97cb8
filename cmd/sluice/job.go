package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/pipeline"
)

// options are the flags that most commands share.
type options struct {
	file     string
	out      string
	version  string
	format   string
	env      []string
	localKey bool
}

func (o *options) addFile(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.file, "file", "f", "sluice.yaml", "configuration")
	cmd.Flags().StringVar(&o.out, "out", "out", "folder for everything that is made, and the ledger")
}

func (o *options) addVersion(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.version, "version", "", "version of the release, for example v1.2.3 (default: version in the file, else the tag of the commit)")
}

func (o *options) addFormat(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "text", "format of the result: text or json")
}

func (o *options) addEnv(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&o.env, "env", nil, "NAME=VALUE added to the service's environment, or NAME to pass on the caller's (repeatable)")
}

func (o *options) addKey(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.localKey, "local-key", false, "sign and verify with a key pair of this machine (OUT/keys) instead of what sign in the file names: to try a release out")
}

func (o *options) json() (bool, error) {
	switch o.format {
	case "", "text":
		return false, nil
	case "json":
		return true, nil
	}
	return false, fmt.Errorf("unknown output %q (known: text, json)", o.format)
}

// config reads the file and finds the out folder.
func (o *options) config() (*config.Config, string, error) {
	cfg, err := config.Load(o.file)
	if err != nil {
		return nil, "", err
	}
	if o.localKey {
		cfg.Sign = config.Sign{PassphraseEnv: cfg.Sign.PassphraseEnv}
	}
	out, err := filepath.Abs(o.out)
	if err != nil {
		return nil, "", fmt.Errorf("finding the out folder: %w", err)
	}
	return cfg, out, nil
}

// job is what a command is about: configuration, version and additions.
func (o *options) job(ctx context.Context, serviceArgs []string) (pipeline.Job, error) {
	cfg, out, err := o.config()
	if err != nil {
		return pipeline.Job{}, err
	}
	j := pipeline.Job{Config: cfg, Out: out, Args: serviceArgs, Commit: git(ctx, cfg.Build.Dir, "rev-parse", "HEAD")}
	if j.Version, err = o.releaseVersion(ctx, cfg); err != nil {
		return j, err
	}
	j.Env, err = environment(o.env)
	return j, err
}

// makeFolder makes the out folder.
func makeFolder(out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return fmt.Errorf("making the out folder: %w", err)
	}
	return nil
}

func (o *options) releaseVersion(ctx context.Context, cfg *config.Config) (string, error) {
	for _, v := range []string{o.version, cfg.Version, git(ctx, cfg.Build.Dir, "describe", "--tags", "--exact-match")} {
		if v != "" {
			return v, pipeline.CheckVersion(v)
		}
	}
	return "", errors.New("no version: give --version v1.2.3, set version in the file, or tag the commit")
}

// git answers a question about the source; without git or a repository the
// answer is empty.
func git(ctx context.Context, dir string, args ...string) string {
	out, err := exec.CommandContext(ctx, "git", append([]string{"-C", dir}, args...)...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// environment parses --env.
func environment(list []string) (map[string]string, error) {
	env := map[string]string{}
	for _, item := range list {
		name, value, given := strings.Cut(item, "=")
		if name == "" {
			return nil, fmt.Errorf("--env %q has no name (write NAME=VALUE)", item)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				return nil, fmt.Errorf("--env %s: there is no such variable to pass on (write %s=VALUE)", name, name)
			}
		}
		env[name] = value
	}
	return env, nil
}
