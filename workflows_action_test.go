package sluice_test

import (
	"encoding/json"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// serviceFiles are the service that the action is tried on. SHOP_REGISTRY stands
// for where it is pushed to.
var serviceFiles = map[string]string{
	"sluice.yaml": "name: hello\nbuild: {main: ./app}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n",
	"push.yaml": "name: hello\nbuild: {main: ./app, platforms: [linux/amd64]}\npack: {upx: off}\n" +
		"publish: {registry: SHOP_REGISTRY/hello, insecure: true}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n",
	"wrong.yaml": "name: hello\n", "go.mod": "module hello\n\ngo 1.24\n", "app/main.go": "package main\n\nfunc main() {}\n",
}

// checkout writes the service into a folder.
func checkout(t *testing.T, host string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range serviceFiles {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "SHOP_REGISTRY", host)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// action executes the action's script the way the runner does, in a folder. What
// is built into temp is built once.
func action(t *testing.T, temp, dir string, env ...string) (said string, err error) {
	t.Helper()
	script, err := filepath.Abs(".github/actions/sluice/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE="+dir, "RUNNER_TEMP="+temp, "GITHUB_OUTPUT="+filepath.Join(dir, "output"),
		"GITHUB_STEP_SUMMARY="+filepath.Join(dir, "summary"), "DOCKER_CONFIG="+filepath.Join(dir, "nobody"))
	for _, input := range actionInputs(t) {
		cmd.Env = append(cmd.Env, input+"=")
	}
	cmd.Env = append(append(cmd.Env, "SLUICE_CONFIG=sluice.yaml", "SLUICE_SARIF=out.sarif"), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// actionInputs are the variables that the action gives to its script.
func actionInputs(t *testing.T) (names []string) {
	t.Helper()
	for _, s := range workflows(t)[".github/actions/sluice/action.yml"].Runs.Steps {
		for name := range s.Env {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		t.Fatal("the action gives nothing to its script")
	}
	return names
}

func TestTheActionRunsHere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds sluice")
	}
	temp := t.TempDir()
	for name, tt := range map[string]struct {
		env      []string
		ok       bool
		annotate string
		sarif    string
	}{
		"a configuration in order":    {env: []string{"SLUICE_COMMAND=check"}, ok: true, sarif: `"results": []`},
		"a command without a version": {env: []string{"SLUICE_COMMAND=check", "SLUICE_VERSION=v1.0.0"}, ok: true, sarif: `"results": []`},
		"one that is not": {
			env:      []string{"SLUICE_COMMAND=check", "SLUICE_CONFIG=wrong.yaml"},
			annotate: "::error file=wrong.yaml,line=1,title=sluice%3A configuration::", sarif: `"ruleId": "configuration"`,
		},
		"a problem that has no line": {
			env:      []string{"SLUICE_COMMAND=publish", "SLUICE_CONFIG=push.yaml"},
			annotate: "::error title=sluice%3A sluice::no version", sarif: `"uri": "push.yaml"`,
		},
		"a version to go back to": {
			env:      []string{"SLUICE_COMMAND=rollback", "SLUICE_VERSION=v1.0.0"},
			annotate: "::error title=sluice%3A rollback::rollback: there is nothing to roll back", sarif: `"ruleId": "rollback"`,
		},
		"arguments stay arguments": {
			env:      []string{"SLUICE_COMMAND=check", "SLUICE_ARGS=--nonsense; touch pwned\n$(touch pwned)"},
			annotate: "::error title=sluice%3A sluice::unknown flag", sarif: `"ruleId": "sluice"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Contains(name, "go back") && os.Geteuid() != 0 {
				t.Skip("takes root")
			}
			dir := checkout(t, "127.0.0.1:1")
			said, err := action(t, temp, dir, tt.env...)
			if (err == nil) != tt.ok || !strings.Contains(said, tt.annotate) {
				t.Errorf("%v, said %s", err, said)
			}
			sarif, err := os.ReadFile(filepath.Join(dir, "out.sarif"))
			if err != nil || !strings.Contains(string(sarif), tt.sarif) {
				t.Errorf("SARIF %s, %v", sarif, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "pwned")); err == nil {
				t.Error("an argument was executed")
			}
		})
	}
}

// TestTheActionPublishes pushes to a registry that wants to know who that is, and
// reads what the jobs that follow get.
func TestTheActionPublishes(t *testing.T) {
	if testing.Short() {
		t.Skip("makes a release")
	}
	images := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who, password, _ := r.BasicAuth(); who != "octo" || password != `p"s ss:%s` {
			w.Header().Set("WWW-Authenticate", `Basic realm="images"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		images.ServeHTTP(w, r)
	}))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	publish := []string{"SLUICE_COMMAND=publish", "SLUICE_CONFIG=push.yaml", "SLUICE_VERSION=v1.2.0"}
	login := append(publish, "SLUICE_REGISTRY="+host, "SLUICE_REGISTRY_USERNAME=octo", `SLUICE_REGISTRY_PASSWORD=p"s ss:%s`)

	temp, dir := t.TempDir(), checkout(t, host)
	said, err := action(t, temp, dir, publish...)
	if err == nil || !strings.Contains(said, "401") {
		t.Errorf("nobody pushed: %v\n%s", err, said)
	}
	if got := output(t, dir, "digest"); !regexp.MustCompile(`^sha256:[0-9a-f]{64}$`).MatchString(got) {
		t.Errorf("the digest of an image that could not be pushed is %q", got)
	}
	if said, err := action(t, temp, dir, login...); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var rel struct{ Image string }
	raw, err := os.ReadFile(filepath.Join(dir, "out/releases/v1.2.0/release.json"))
	if err == nil {
		err = json.Unmarshal(raw, &rel)
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"version": "v1.2.0", "digest": rel.Image, "outcome": "", "verdict": ""} {
		if got := output(t, dir, name); got != want {
			t.Errorf("the output %s is %q, want %q", name, got, want)
		}
	}
	summary, err := os.ReadFile(filepath.Join(dir, "summary"))
	if err != nil || !strings.Contains(string(summary), "### hello v1.2.0 publish: failed") || !strings.Contains(string(summary), "### hello v1.2.0 publish: done\n") {
		t.Errorf("summary %s, %v", summary, err)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "registry-*")); err != nil || len(left) > 0 {
		t.Errorf("what was logged in with is still there: %v, %v", left, err)
	}
	if said, err := action(t, temp, dir, append(login, `SLUICE_REGISTRY=x"}`)...); err == nil || !strings.Contains(said, "::error title=sluice%3A registry::") {
		t.Errorf("a registry that is none: %v\n%s", err, said)
	}
}

// output is the value that an output of the step has at last.
func output(t *testing.T, dir, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	value := "never set"
	lines := strings.Split(string(raw), "\n")
	for i, line := range lines {
		if end, found := strings.CutPrefix(line, name+"<<"); found {
			value = ""
			for _, l := range lines[i+1:] {
				if l == end {
					break
				}
				value += l
			}
		}
	}
	return value
}

// TestOutputsAreThoseOfTheStep: an output that names a step which is not there is empty.
func TestOutputsAreThoseOfTheStep(t *testing.T) {
	named := regexp.MustCompile(`steps\.([\w-]+)\.outputs\.([\w-]+)`)
	for file, outputs := range map[string][]string{
		".github/workflows/release.yml": {"version", "digest"}, ".github/workflows/canary.yml": {"verdict", "reason"},
	} {
		for id, job := range workflows(t)[file].Jobs {
			for _, want := range outputs {
				m := named.FindStringSubmatch(job.Outputs[want])
				found := false
				for _, s := range job.Steps {
					found = found || m != nil && m[1] == s.ID
				}
				if m == nil || m[2] != want || !found {
					t.Errorf("%s: job %s has the output %s as %q", file, id, want, job.Outputs[want])
				}
			}
		}
	}
}

// A dry run on a pull request has no key and no identity, and sends nothing.
func TestADryRunIsNoRelease(t *testing.T) {
	for _, s := range workflows(t)[".github/workflows/ci.yml"].Jobs["release-dry-run"].Steps {
		if s.With["command"] == "publish" && s.With["args"] != "--local\n--local-key" {
			t.Errorf("the dry run has the arguments %q", s.With["args"])
		}
	}
}

// A deployment of another environment, a commit of another repository, an event
// without a ref: each took a sync away once.
func TestADeploymentIsNotMixedUp(t *testing.T) {
	w := workflows(t)[".github/workflows/canary.yml"]
	if !strings.Contains(w.Concurrency.Group, "github.event.deployment.environment") {
		t.Errorf("a deployment to elsewhere takes the place of one that waits: group %q", w.Concurrency.Group)
	}
	for _, s := range w.Jobs["sync"].Steps {
		if strings.Contains(s.Env["REVISION"], "deployment.sha") {
			t.Errorf("a commit of this repository is asked for in the GitOps repository: %s", s.Env["REVISION"])
		}
		if strings.Contains(s.Uses, "upload-sarif@") && (s.With["ref"] == "" || s.With["sha"] == "") {
			t.Error("a deployment of a commit has no ref, and the upload needs one")
		}
	}
}

// TestSARIFIsUploadedIfItIsThere: a job that failed before sluice began has none.
func TestSARIFIsUploadedIfItIsThere(t *testing.T) {
	for name, w := range workflows(t) {
		for id, job := range w.Jobs {
			for _, s := range job.Steps {
				if strings.Contains(s.Uses, "upload-sarif@") && (!strings.Contains(s.If, "hashFiles('sluice.sarif') != ''") || job.Permissions["actions"] != "read") {
					t.Errorf("%s: job %s uploads SARIF with the permissions %v if %q", name, id, job.Permissions, s.If)
				}
			}
		}
	}
}
