package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/sign/signtest"
)

// keylessProject is a service whose releases an identity signs.
func keylessProject(t *testing.T) (server *signtest.Server, dir string, sluice func(env map[string]string, args ...string) (string, int)) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a release")
	}
	program, err := exec.LookPath("sluice")
	if err != nil {
		t.Fatal(err)
	}
	server, dir = signtest.Serve(signtest.New(t)), t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.com/hello\n\ngo 1.24\n", "main.go": "package main\n\nfunc main() {}\n",
		"trusted_root.json": string(server.TrustedRoot()),
		"sluice.yaml": "name: hello\nbuild: {main: ., platforms: [linux/amd64]}\npack: {upx: off}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n" +
			"sign: {keyless: {identity: release@acme.test, issuer: https://issuer.test, trusted_root: trusted_root.json, fulcio: " + server.URL + ", rekor: " + server.URL + "}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return server, dir, func(env map[string]string, args ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), program, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "GITHUB_ACTIONS=", "ACTIONS_ID_TOKEN_REQUEST_URL=", "SIGSTORE_ID_TOKEN=")
		for name, value := range env {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		said, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(said), cmd.ProcessState.ExitCode()
	}
}

// TestAReleaseSignedByAnIdentity makes one with the token of a job, and verifies
// it where there is neither a token nor a network service.
func TestAReleaseSignedByAnIdentity(t *testing.T) {
	server, dir, sluice := keylessProject(t)
	if said, code := sluice(server.Environment(), "publish", "--version", "v1.0.0"); code != 0 {
		t.Fatalf("publish: %d\n%s", code, said)
	}
	entries := server.Requests("/api/v1/log/entries")
	said, code := sluice(server.Environment(), "publish", "--version", "v1.0.0")
	if code != 0 || !strings.Contains(said, "unchanged") || server.Requests("/api/v1/log/entries") != entries {
		t.Errorf("the second time: %d, %d entries before, %d after\n%s", code, entries, server.Requests("/api/v1/log/entries"), said)
	}
	for _, path := range []string{"/token", "/api/v2/signingCert", "/api/v1/log/entries"} {
		server.Fail(path, 500)
	}
	if said, code := sluice(nil, "verify", "--version", "v1.0.0"); code != 0 || strings.Contains(said, "FAIL") {
		t.Errorf("verify: %d\n%s", code, said)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "keys")); err == nil {
		t.Error("a key pair was made")
	}

	config, err := os.ReadFile(filepath.Join(dir, "sluice.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(string(config), "release@acme.test", "eve@acme.test", 1)
	if err := os.WriteFile(filepath.Join(dir, "sluice.yaml"), []byte(other), 0o644); err != nil {
		t.Fatal(err)
	}
	if said, code := sluice(nil, "verify", "--version", "v1.0.0"); code == 0 || !strings.Contains(said, "FAIL") {
		t.Errorf("verified as somebody else's: %d\n%s", code, said)
	}
}

// TestNothingIsHalfSigned lets things go wrong before, and in the middle.
func TestNothingIsHalfSigned(t *testing.T) {
	server, dir, sluice := keylessProject(t)
	for name, tt := range map[string]struct {
		env  map[string]string
		fail int // entries before the log fails; 0: never
		code int
		said []string
	}{
		"no identity": {nil, 0, 2, []string{"sluice: sign: identity token: there is none", "sluice: hint: run this in GitHub Actions with `permissions: {id-token: write}`"}},
		"a job that may not ask": {
			map[string]string{"GITHUB_ACTIONS": "true"},
			0, 2,
			[]string{"sluice: sign: identity token: this job may not ask for one", "hint: give the job `permissions: {id-token: write}`"},
		},
		"a log that goes away": {server.Environment(), 3, exitTransient, []string{"transparency log " + server.URL, "nothing was signed"}},
	} {
		t.Run(name, func(t *testing.T) {
			server.Fail("/api/v1/log/entries", 0)
			if tt.fail > 0 {
				server.FailAfter(tt.fail, "/api/v1/log/entries", 503)
			}
			said, code := sluice(tt.env, "publish", "--version", "v1.0.0")
			if code != tt.code {
				t.Errorf("exit status %d, want %d", code, tt.code)
			}
			for _, want := range tt.said {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
			bundles, err := filepath.Glob(filepath.Join(dir, "out", "releases", "v1.0.0", "*"))
			nested, nestedErr := filepath.Glob(filepath.Join(dir, "out", "releases", "v1.0.0", "*", "*"))
			all := slices.Concat(bundles, nested)
			if err != nil || nestedErr != nil || slices.ContainsFunc(all, func(f string) bool { return strings.HasSuffix(f, ".sigstore.json") }) {
				t.Errorf("left %q, %v, %v", all, err, nestedErr)
			}
			if _, err := os.Stat(filepath.Join(dir, "out", "oci")); err == nil {
				t.Error("something was published")
			}
		})
	}
}
