package sluice_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// pullRequest is a repository whose branch has one more dependency than main.
const pullRequest = `
put() { mkdir -p "$(dirname "$1")" && cat >"$1"; }
git init -q -b main .
git config user.email dev@acme.test && git config user.name dev
printf 'module acme.test/hello\n\ngo 1.26.0\n' | put go.mod
printf 'package main\n\nfunc main() {}\n' | put app/main.go
printf 'name: hello\nbuild: {main: ./app}\ndeploy: {local: {listen: 127.0.0.1:8080}}\n' | put sluice.yaml
git add . && git commit -q -m one && git checkout -q -b change
printf 'module acme.test/greet\n\ngo 1.26.0\n' | put greet/go.mod
printf 'package greet\n\nconst Word = "hello"\n' | put greet/greet.go
printf 'module acme.test/hello\n\ngo 1.26.0\n\nrequire acme.test/greet v1.4.0\n\nreplace acme.test/greet => ./greet\n' | put go.mod
printf 'package main\n\nimport "acme.test/greet"\n\nfunc main() { println(greet.Word) }\n' | put app/main.go
git add . && git commit -q -m two`

// comments is the part of GitHub that a review speaks to.
type comments struct {
	mu     sync.Mutex
	status int
	bodies []string
}

func (c *comments) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status != 0 || r.Header.Get("Authorization") != "Bearer t0ken" {
		w.WriteHeader(max(c.status, http.StatusUnauthorized))
		return
	}
	if r.Method == http.MethodGet {
		_, _ = w.Write([]byte("[]"))
		return
	}
	var comment struct{ Body string }
	_ = json.NewDecoder(r.Body).Decode(&comment)
	c.bodies = append(c.bodies, r.URL.Path+" "+comment.Body)
	w.WriteHeader(http.StatusCreated)
}

// TestTheReviewRunsHere executes the step of the job review on a pull request,
// and reads back what GitHub would show.
func TestTheReviewRunsHere(t *testing.T) {
	if testing.Short() {
		t.Skip("builds sluice")
	}
	dir := t.TempDir()
	sluice := filepath.Join(dir, "sluice")
	repository := filepath.Join(dir, "repository")
	if err := os.Mkdir(repository, 0o755); err != nil {
		t.Fatal(err)
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	run := func(env []string, dir, name string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	if said, err := run([]string{"CGO_ENABLED=0"}, root, "go", "build", "-o", sluice, "./cmd/sluice"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if said, err := run(nil, repository, "sh", "-e", "-c", pullRequest); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	target := reviewTarget(t)
	for name, tt := range map[string]struct {
		status          int
		base            string
		ok, comment     bool
		said, inSummary []string
	}{
		"a pull request": {
			base: "main", ok: true, comment: true,
			said:      []string{"+  acme.test/greet", "as good as the stable version"},
			inSummary: []string{"### SBOM: 1 components changed", "| + | acme.test/greet |", "### Gate plan: 100 requests a second", "| twice as slow | 0 % |"},
		},
		"one of a fork, whose token may not comment": {
			status: http.StatusForbidden, base: "main", ok: true,
			said:      []string{"::warning title=sluice%3A comment::commenting on the pull request: GitHub refuses (403)%0Agive the job", "as good as the stable version"},
			inSummary: []string{"### SBOM: 1 components changed"},
		},
		"a base that was not fetched": {base: "origin/main", said: []string{"--base origin/main: there is no such commit", "fetch-depth: 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			github := &comments{status: tt.status}
			server := httptest.NewServer(github)
			defer server.Close()
			summary := filepath.Join(t.TempDir(), "summary")
			// The program is built already; the recipe is that of the workflow.
			said, err := run([]string{
				"GITHUB_ACTIONS=true", "GITHUB_API_URL=" + server.URL, "GITHUB_REPOSITORY=acme/hello", "GITHUB_REF=refs/pull/7/merge",
				"GITHUB_STEP_SUMMARY=" + summary, "GITHUB_TOKEN=t0ken", "BASE=" + tt.base, "MAKEFLAGS=", "GOPROXY=off", "GOFLAGS=-buildvcs=false",
			}, repository, "make", "-f", filepath.Join(root, "Makefile"), "-o", "build", "SLUICE="+sluice, target)
			if (err == nil) != tt.ok {
				t.Fatalf("%v\n%s", err, said)
			}
			for _, want := range tt.said {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, said)
				}
			}
			shown, _ := os.ReadFile(summary)
			for _, want := range tt.inSummary {
				if !strings.Contains(string(shown), want) {
					t.Errorf("%q is not in the summary:\n%s", want, shown)
				}
			}
			want := "/repos/acme/hello/issues/7/comments <!-- sluice: sbom -->\n### SBOM: 1 components changed"
			if tt.comment != (len(github.bodies) == 1 && strings.HasPrefix(github.bodies[0], want)) {
				t.Errorf("comments: %q", github.bodies)
			}
		})
	}
}

// reviewTarget is what the job review runs, which alone may comment.
func reviewTarget(t *testing.T) string {
	t.Helper()
	for name, w := range workflows(t) {
		for id, job := range w.Jobs {
			if (job.Permissions["pull-requests"] == "write") != (id == "review") {
				t.Errorf("%s: job %s has the permissions %v", name, id, job.Permissions)
			}
		}
	}
	steps := workflows(t)[".github/workflows/ci.yml"].Jobs["review"].Steps
	if len(steps) == 0 {
		t.Fatal("ci.yml has no job review")
	}
	return strings.TrimPrefix(steps[len(steps)-1].Run, "make ")
}
