package sluice_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// workflow is what the rules below are about.
type workflow struct {
	Permissions map[string]string
	Concurrency struct{ Group string }
	Env         map[string]string
	Jobs        map[string]job
	Runs        struct{ Steps []step } // of an action
}

type job struct {
	TimeoutMinutes int `yaml:"timeout-minutes"`
	Permissions    map[string]string
	Container      struct{ Image, Options string }
	Concurrency    struct{ Group string }
	Outputs        map[string]string
	Steps          []step
}

type step struct {
	ID, If, Uses, Run string
	With, Env         map[string]string
}

// mayWrite are the permissions that a job of ours may ask for.
var mayWrite = []string{"security-events", "packages", "id-token", "attestations", "pull-requests", "deployments"}

func TestWorkflowsTakeNoMoreThanTheyNeed(t *testing.T) {
	for name, w := range workflows(t) {
		t.Run(name, func(t *testing.T) {
			if !strings.HasSuffix(name, "action.yml") && (w.Permissions == nil || len(w.Permissions) > 0 || w.Concurrency.Group == "") {
				t.Error("a workflow says `permissions: {}`, and each job what it needs; it has a concurrency group")
			}
			for id, job := range w.Jobs {
				if job.TimeoutMinutes == 0 || job.TimeoutMinutes > 60 {
					t.Errorf("job %s has %d as timeout-minutes, want 1 to 60", id, job.TimeoutMinutes)
				}
				for what, how := range job.Permissions {
					if how == "write" && !slices.Contains(mayWrite, what) || strings.HasSuffix(how, "all") {
						t.Errorf("job %s asks for %s: %s", id, what, how)
					}
				}
				if job.Permissions == nil {
					t.Errorf("job %s does not say what it needs", id)
				}
				checkSteps(t, job.Steps)
			}
			checkSteps(t, w.Runs.Steps)
		})
	}
}

var (
	pinned = regexp.MustCompile(`^[\w.-]+/[\w./-]+@[0-9a-f]{40}$`)
	// An expression in a script is where somebody else's text becomes a command.
	expression = regexp.MustCompile(`\$\{\{`)
)

func checkSteps(t *testing.T, steps []step) {
	t.Helper()
	for _, s := range steps {
		if s.Uses != "" && !strings.HasPrefix(s.Uses, "./") && !pinned.MatchString(s.Uses) {
			t.Errorf("%s is not pinned by commit", s.Uses)
		}
		if strings.HasPrefix(s.Uses, "actions/checkout@") && s.With["persist-credentials"] != "false" {
			t.Error("a checkout leaves its token in the folder: persist-credentials: false")
		}
		if strings.Contains(s.Run, "\n") || expression.MatchString(s.Run) {
			t.Errorf("a step is one line without expressions, got %q", s.Run)
		}
	}
}

// workflows reads every workflow and action of ours.
func workflows(t *testing.T) map[string]workflow {
	t.Helper()
	list := map[string]workflow{}
	for _, pattern := range []string{".github/workflows/*.yml", ".github/actions/*/action.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var w workflow
			if err := yaml.Unmarshal(raw, &w); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			list[file] = w
		}
	}
	return list
}
