package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/engine"
	"github.com/sluice-cd/sluice/internal/pipeline"
	"github.com/sluice-cd/sluice/internal/sign"
)

// keysFor hands over what a release is signed with, as a secret: what an identity is
// proven with, or the private key of the configured file, the variable, or the pair in
// the out folder. Without any of them the engine makes a pair up, as sluice does here.
func keysFor(job *engine.Job, root string, j pipeline.Job) error {
	cfg := j.Config.Sign
	job.Secrets, job.Files = map[string]string{}, map[string]string{}
	pass := os.Getenv(cfg.PassphraseEnv)
	switch {
	case cfg.Keyless.Given():
		return identityFor(job, root, j.Config)
	case cfg.Key != "":
		rel, err := filepath.Rel(root, cfg.Key)
		if err != nil || !filepath.IsLocal(rel) {
			return j.Config.Complaint("sign.key", "lies outside the source, where an engine cannot have it: put the key into the environment variable %s instead", cfg.KeyEnv)
		}
		raw, err := os.ReadFile(cfg.Key)
		if err != nil {
			return fmt.Errorf("reading the private key: %w", err)
		}
		job.Files[filepath.ToSlash(rel)] = string(raw)
		job.Exclude = append(job.Exclude, filepath.ToSlash(rel))
	case os.Getenv(cfg.KeyEnv) != "":
		job.Secrets[cfg.KeyEnv] = os.Getenv(cfg.KeyEnv)
	default:
		raw, err := os.ReadFile(filepath.Join(j.Out, "keys", "cosign.key"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading the private key: %w", err)
		}
		job.Secrets[cfg.KeyEnv] = string(raw)
		if pass == "" {
			made, err := os.ReadFile(filepath.Join(j.Out, "keys", "passphrase"))
			if err != nil {
				return fmt.Errorf("reading the passphrase of the local key: %w", err)
			}
			pass = strings.TrimSpace(string(made))
		}
	}
	if pass != "" {
		job.Secrets[cfg.PassphraseEnv] = pass
	}
	return nil
}

// identityFor hands over a token, or what a job of GitHub Actions asks for one with:
// a token of now would be too old by the time that there is something to sign.
func identityFor(job *engine.Job, root string, cfg *config.Config) error {
	if file := cfg.Sign.Keyless.TrustedRoot; file != "" {
		if rel, err := filepath.Rel(root, file); err != nil || !filepath.IsLocal(rel) {
			return cfg.Complaint("sign.keyless.trusted_root", "lies outside the source, where an engine cannot have it")
		}
	}
	if _, err := sign.AmbientToken(os.Getenv); err != nil { // the engine would find none either, much later
		return fmt.Errorf("signing in an engine: %w", err)
	}
	for _, variable := range []string{"SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} {
		if value := os.Getenv(variable); value != "" {
			job.Secrets[variable] = value
		}
	}
	return nil
}

// credentials are what this machine has for one registry, from its helpers, too, in
// the form of ~/.docker/config.json. They are empty if it has none, or if there is no
// registry.
func credentials(ctx context.Context, registry string) (string, error) {
	if registry == "" {
		return "", nil
	}
	repository, err := name.NewRepository(registry)
	if err != nil {
		return "", fmt.Errorf("looking for credentials: %w", err)
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, repository)
	if err != nil {
		return "", fmt.Errorf("looking for credentials of %s: %w", repository.RegistryStr(), err)
	}
	if found == authn.Anonymous {
		return "", nil
	}
	auth, err := authn.Authorization(ctx, found)
	if err != nil {
		return "", fmt.Errorf("looking for credentials of %s: %w", repository.RegistryStr(), err)
	}
	host := repository.RegistryStr()
	if host == name.DefaultRegistry {
		host = authn.DefaultAuthKey
	}
	raw, err := json.Marshal(map[string]any{"auths": map[string]any{host: auth}})
	if err != nil {
		return "", fmt.Errorf("handing over credentials of %s: %w", repository.RegistryStr(), err)
	}
	return string(raw), nil
}
