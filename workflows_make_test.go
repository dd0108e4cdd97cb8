package sluice_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/engine/toolbox"
)

// notInCI are the targets of make that neither a workflow nor .ci/run runs, and why.
var notInCI = map[string]string{
	"help":      "lists the targets, which this test reads",
	"clean":     "removes what a person made",
	"e2e":       "wants a machine of its own for a whole cluster, and 20 minutes: run by hand before a release",
	"setup-e2e": "for e2e",
}

// makeTargets are the targets of the Makefile, each with those that it needs.
func makeTargets(t *testing.T) map[string][]string {
	t.Helper()
	raw, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9-]+):([^=#\n]*)(?:$|##)`).FindAllStringSubmatch(string(raw), -1) {
		targets[m[1]] = strings.Fields(m[2])
	}
	return targets
}

// TestWorkflowsRunWhatALaptopRuns: a line of a workflow is a target of make.
func TestWorkflowsRunWhatALaptopRuns(t *testing.T) {
	targets := makeTargets(t)
	for name, w := range workflows(t) {
		for id, job := range w.Jobs {
			for _, s := range job.Steps {
				if s.Run == "" {
					continue
				}
				target, found := strings.CutPrefix(s.Run, "make ")
				if _, known := targets[target]; !found || !known {
					t.Errorf("%s: job %s runs %q, which is no target of make", name, id, s.Run)
				}
			}
		}
	}
}

// TestEveryTargetIsRunByCI: a target that nobody runs rots, or is of no use.
func TestEveryTargetIsRunByCI(t *testing.T) {
	targets := makeTargets(t)
	script, err := os.ReadFile(".ci/run")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(script), "\n")
	for _, w := range workflows(t) {
		for _, job := range w.Jobs {
			for _, s := range job.Steps {
				lines = append(lines, s.Run)
			}
		}
	}
	run := map[string]bool{}
	var mark func(target string)
	mark = func(target string) {
		if _, known := targets[target]; known && !run[target] {
			run[target] = true
			for _, needed := range targets[target] {
				mark(needed)
			}
		}
	}
	for _, line := range lines {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "make" {
			mark(words[1])
		}
	}
	for target := range targets {
		if why, excused := notInCI[target]; run[target] == excused {
			t.Errorf("make %s: run by CI %v, named as not run %v (%s)", target, run[target], excused, why)
		}
	}
	for target := range notInCI {
		if _, known := targets[target]; !known {
			t.Errorf("there is no target %s", target)
		}
	}
}

// onTheRunner are the jobs that need nothing of Debian and no privileges.
var onTheRunner = []string{"review"}

// TestJobsRunOnDebianAndSkipNothing: eBPF objects are compared byte for byte,
// kernels come from Debian's packages, and a test that cannot run is a failure
// only where CI is "true". sudo would take that away.
func TestJobsRunOnDebianAndSkipNothing(t *testing.T) {
	for name, w := range workflows(t) {
		for id, job := range w.Jobs {
			uses := func(command string) bool {
				return slices.ContainsFunc(job.Steps, func(s step) bool { return strings.Contains(s.Run, command) })
			}
			if uses("sudo ") {
				t.Errorf("%s: job %s uses sudo, which takes CI=true away", name, id)
			}
			if !uses("make ") || slices.Contains(onTheRunner, id) || strings.HasSuffix(name, "canary.yml") {
				continue
			}
			if job.Container.Image != toolbox.Base {
				t.Errorf("%s: job %s runs in the image %q, want %q as the engine has", name, id, job.Container.Image, toolbox.Base)
			}
			if want := strings.Join(devcontainer(t).RunArgs, " "); job.Container.Options != want {
				t.Errorf("%s: job %s has the options %q, want %q as the devcontainer has", name, id, job.Container.Options, want)
			}
			for variable, want := range map[string]string{
				"CI": "true", "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
			} {
				if w.Env[variable] != want {
					t.Errorf("%s: %s is %q, want %q", name, variable, w.Env[variable], want)
				}
			}
		}
	}
}

func TestTheDevcontainerIsWhatCIHas(t *testing.T) {
	docker, err := os.ReadFile(".devcontainer/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docker), "\nFROM "+toolbox.Base+"\n") {
		t.Errorf("it is not made from %s:\n%s", toolbox.Base, docker)
	}
	env := devcontainer(t).ContainerEnv
	if env["GIT_CONFIG_COUNT"] != "1" || env["GIT_CONFIG_KEY_0"] != "safe.directory" || env["GIT_CONFIG_VALUE_0"] != "*" {
		t.Errorf("git does not trust the checkout of another user: %v", env)
	}
}

type devcontainerJSON struct {
	RunArgs      []string
	ContainerEnv map[string]string
}

func devcontainer(t *testing.T) (d devcontainerJSON) {
	t.Helper()
	raw, err := os.ReadFile(".devcontainer/devcontainer.json")
	if err != nil {
		t.Fatal(err)
	}
	comment := regexp.MustCompile(`(?m)^\s*//.*$`)
	if err := json.Unmarshal(comment.ReplaceAll(raw, nil), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// The rule is 250 lines of workflows in all: what is longer belongs into make.
func TestWorkflowsAreShort(t *testing.T) {
	lines := 0
	for name := range workflows(t) {
		if strings.HasSuffix(name, "action.yml") {
			continue
		}
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(raw), "\n")
	}
	if lines > 250 {
		t.Errorf("the workflows have %d lines, want 250 at most", lines)
	}
}
