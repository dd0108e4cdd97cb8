package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// apt runs apt's programs with lists, sources and a cache of their own.
type apt struct {
	dir     string
	options []string
}

func newApt(dir, sources string) (*apt, error) {
	list := filepath.Join(dir, "sources.list")
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("making a folder for apt: %w", err)
		}
	}
	if err := os.WriteFile(list, []byte(sources), 0o644); err != nil {
		return nil, fmt.Errorf("writing the sources for apt: %w", err)
	}
	a := &apt{dir: dir}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=-",
		"Dir::State=" + filepath.Join(dir, "state"), "Dir::State::status=/dev/null", "Dir::Cache=" + filepath.Join(dir, "cache"),
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"APT::Architecture=amd64", "APT::Update::Error-Mode=any",
		"APT::Sandbox::User=root", // the user that apt would become cannot write here
	} {
		a.options = append(a.options, "-o", o)
	}
	return a, nil
}

func (a *apt) run(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, append(a.options, args...)...)
	cmd.Dir = a.dir
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", program, args[0], err)
	}
	return out, nil
}

// metapackage depends on the kernel of a suite; the flavour for virtual machines
// has all that is needed built in.
const metapackage = "linux-image-cloud-amd64"

// kernel returns the version of the newest kernel and the packages, as
// name=version, that it is in. Newer Debians spread it over several.
func (a *apt) kernel(ctx context.Context) (version string, packages []string, err error) {
	seen := map[string]bool{}
	for todo := []string{metapackage}; len(todo) > 0; todo = todo[1:] {
		name := todo[0] // the first only leads to the others
		if seen[name] {
			continue
		}
		seen[name] = true
		record, err := a.run(ctx, "apt-cache", "show", "--no-all-versions", name)
		if err != nil {
			return "", nil, err
		}
		version = field(record, "Version")
		if name != metapackage {
			packages = append(packages, name+"="+version)
		}
		todo = append(todo, kernelPackage.FindAllString(field(record, "Depends"), -1)...)
	}
	if len(packages) == 0 {
		return "", nil, fmt.Errorf("package %s leads to no kernel", metapackage)
	}
	return version, packages, nil
}

// kernelPackage is the name of a package with a part of a kernel.
var kernelPackage = regexp.MustCompile(`\blinux-(image|binary)-[0-9][^ ,]*`)

// field returns a field of a package record.
func field(record, name string) string {
	for line := range strings.Lines(record) {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// output runs a command; the error has what it complained of.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return string(out), err
}
