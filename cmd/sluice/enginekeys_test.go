package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/internal/engine"
)

func TestPrivateKeysAreSecretsOfTheEngine(t *testing.T) {
	for name, tt := range map[string]struct {
		more, env       string
		local           bool
		secrets, files  map[string]string
		excluded, wrong string
	}{
		"none at all":           {secrets: map[string]string{}, files: map[string]string{}},
		"in the environment":    {env: "pem", secrets: map[string]string{"SLUICE_KEY": "pem"}, files: map[string]string{}},
		"the one that was made": {local: true, secrets: map[string]string{"SLUICE_KEY": "mine", "SLUICE_PASSPHRASE": "word"}, files: map[string]string{}},
		"a file": {
			more: "sign: {key: cosign.key}\n", secrets: map[string]string{},
			files: map[string]string{"cosign.key": "private"}, excluded: "cosign.key",
		},
		"a file that is gone":      {more: "sign: {key: gone.key}\n", wrong: "reading the private key"},
		"a file that is elsewhere": {more: "sign: {key: ../cosign.key}\n", wrong: "SLUICE_KEY"},
	} {
		t.Run(name, func(t *testing.T) {
			root, j := shop(t, "sluice.yaml", tt.more)
			t.Setenv("SLUICE_PASSPHRASE", "")
			t.Setenv("SLUICE_KEY", tt.env)
			if tt.local {
				for file, text := range map[string]string{"cosign.key": "mine", "passphrase": "word\n"} {
					path := filepath.Join(root, "made", "keys", file)
					if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			var job engine.Job
			err := keysFor(&job, root, j)
			if tt.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wrong) {
					t.Errorf("got %v, want %q", err, tt.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.secrets, job.Secrets) + cmp.Diff(tt.files, job.Files); d != "" {
				t.Error(d)
			}
			if strings.Join(job.Exclude, " ") != tt.excluded {
				t.Errorf("left out: %v", job.Exclude)
			}
		})
	}
}

// TestAnIdentityIsASecretOfTheEngine: a key pair that lies there by chance is not sent.
func TestAnIdentityIsASecretOfTheEngine(t *testing.T) {
	const keyless = "sign: {keyless: {identity: me@acme.test, issuer: https://issuer.test, trusted_root: root.json}}\n"
	for name, tt := range map[string]struct {
		more  string
		env   map[string]string
		wrong string
	}{
		"a token":        {keyless, map[string]string{"SIGSTORE_ID_TOKEN": "a.b.c"}, ""},
		"a job's right":  {keyless, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.test", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"}, ""},
		"half a right":   {keyless, map[string]string{"ACTIONS_ID_TOKEN_REQUEST_URL": "https://token.test"}, "identity token"},
		"nothing at all": {keyless, nil, "identity token: there is none"},
		"a root that lies elsewhere": {
			strings.Replace(keyless, "root.json", "../root.json", 1), map[string]string{"SIGSTORE_ID_TOKEN": "a.b.c"}, "lies outside the source",
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, j := shop(t, "sluice.yaml", tt.more)
			for _, variable := range []string{"GITHUB_ACTIONS", "SIGSTORE_ID_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"} {
				t.Setenv(variable, tt.env[variable])
			}
			if err := os.MkdirAll(filepath.Join(j.Out, "keys"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(j.Out, "keys", "cosign.key"), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
			var job engine.Job
			err := keysFor(&job, root, j)
			if tt.wrong != "" {
				var hinted interface{ Hint() string }
				if err == nil || !strings.Contains(err.Error(), tt.wrong) || strings.Contains(tt.wrong, "identity token") && !errors.As(err, &hinted) {
					t.Errorf("got %v, want %q and a hint", err, tt.wrong)
				}
				return
			}
			if d := cmp.Diff(tt.env, job.Secrets); err != nil || d != "" {
				t.Errorf("%v\n%s", err, d)
			}
		})
	}
}

func TestAnEngineGetsTheCredentialsOfOneRegistry(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for file, text := range map[string]string{
		"config.json": `{"auths":{"registry.test:5000":{"auth":"bWU6d29yZA=="},"other.test":{"auth":"bWU6b3RoZXI="}},"credHelpers":{"helped.test":"safe"}}`,
		"docker-credential-safe": `#!/bin/sh
test "$1" = get && echo '{"ServerURL":"helped.test","Username":"me","Secret":"safe word"}'
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for registry, want := range map[string]string{
		"": "", "nobody.test/shop": "", "registry.test:5000/team/shop": "word", "helped.test/shop": "safe word",
	} {
		got, err := credentials(t.Context(), registry)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			if got != "" {
				t.Errorf("%s: %s", registry, got)
			}
			continue
		}
		var docker struct {
			Auths map[string]struct{ Username, Password, Auth string }
		}
		if err := json.Unmarshal([]byte(got), &docker); err != nil {
			t.Fatal(err)
		}
		host, _, _ := strings.Cut(registry, "/")
		if one := docker.Auths[host]; len(docker.Auths) != 1 || one.Username != "me" || one.Password != want || one.Auth == "" {
			t.Errorf("%s: %s", registry, got)
		}
	}
	_, j := shop(t, "sluice.yaml", "publish: {registry: helped.test/shop}\n")
	t.Setenv("SLUICE_KEY", "pem")
	if job, err := (&executor{}).job(t.Context(), options{}, j); err != nil || !strings.Contains(job.Docker, "helped.test") {
		t.Errorf("got %q, %v", job.Docker, err)
	}
}
