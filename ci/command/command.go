// Package command builds the command lines that the module runs in containers,
// and refuses arguments that sluice would refuse much later.
//
// It knows sluice's commands and flags and nothing of Dagger. What it returns
// depends on its arguments alone. Its errors say what would be right.
package command

import (
	"fmt"
	"regexp"
)

// semver is the grammar of Semantic Versioning 2.0.0, with an optional v.
var semver = regexp.MustCompile(`^v?(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)` +
	`(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?` +
	`(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$`)

var commit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// CheckVersion refuses what is no version of Semantic Versioning 2.0.0.
func CheckVersion(v string) error {
	if !semver.MatchString(v) {
		return fmt.Errorf("version %q is not a Semantic Versioning 2.0.0 version (write all three numbers, like v1.4.2 or 1.4.2-rc.1)", v)
	}
	return nil
}

// CheckCommit refuses what is no full commit id. None is allowed.
func CheckCommit(id string) error {
	if id != "" && !commit.MatchString(id) {
		return fmt.Errorf("commit %q is not a full commit id (git rev-parse HEAD prints one)", id)
	}
	return nil
}

// BuildSluice compiles the command itself.
func BuildSluice(to string) []string {
	return []string{"go", "build", "-trimpath", "-buildvcs=false", "-o", to, "./cmd/sluice"}
}

// Step is a step of sluice for a version, with further flags.
func Step(step, version string, flags ...string) ([]string, error) {
	if err := CheckVersion(version); err != nil {
		return nil, err
	}
	return append([]string{"sluice", step, "--version", version}, flags...), nil
}

// Format is the flag for the form of a result.
func Format(format string) ([]string, error) {
	switch format {
	case "text", "json":
		return []string{"-o", format}, nil
	}
	return nil, fmt.Errorf("unknown format %q (known: text, json)", format)
}

// Release is the folder of a version, relative to the source.
func Release(version string) string { return "out/releases/" + version }

// Variable is an environment variable.
type Variable struct{ Name, Value string }

// GitEnvironment lets git answer about a repository whose files belong to
// somebody else, as those of a mounted folder do.
func GitEnvironment() []Variable {
	return []Variable{
		{"GIT_CONFIG_COUNT", "1"},
		{"GIT_CONFIG_KEY_0", "safe.directory"},
		{"GIT_CONFIG_VALUE_0", "*"},
	}
}

// Archive is the command that puts the image of a version, out of an out folder,
// into a tarball in OCI layout. Its index is the image's own: Dagger's import
// finds no platform below a tag.
func Archive(out, version, to string) ([]string, error) {
	if err := CheckVersion(version); err != nil {
		return nil, err
	}
	return []string{"sh", "-euc", `
digest=$(sed -n 's/^ *"image": *"sha256:\([0-9a-f]*\)".*/\1/p' "$1/releases/$2/release.json")
test -n "$digest" || { echo "the release $2 has no image" >&2; exit 2; }
dir=$(mktemp -d)
cp -r "$1/oci/." "$dir"
cp "$dir/blobs/sha256/$digest" "$dir/index.json"
tar -C "$dir" --sort=name --mtime=@0 --owner=0 --group=0 -cf "$3" .
rm -r "$dir"
`, "archive", out, version, to}, nil
}
