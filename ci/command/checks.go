package command

import "strings"

// CheckConfig is the command that checks sluice.yaml.
func CheckConfig() []string { return []string{"sluice", "check"} }

// CompareObjects is the command that compiles the eBPF objects below a folder
// again and fails if one is not what it was, or if there is none.
func CompareObjects(dir string) []string {
	return []string{"sh", "-euc", `
find "$1" -name '*.o' -exec sha256sum {} + >/tmp/objects
test -s /tmp/objects || { echo "there is no eBPF object below $1" >&2; exit 2; }
go generate "./$1/..."
sha256sum --check --quiet /tmp/objects || { echo "the objects above are not what their source makes: run make generate and commit" >&2; exit 1; }
`, "compare", dir}
}

// Kernels is the command that tries the objects on other kernels.
func Kernels(only string) []string {
	args := []string{"go", "run", "./internal/kernels"}
	if only == "" {
		return append(args, "-compare")
	}
	return append(args, "-kernel", only)
}

// Lint is the command that checks the source. gofumpt and staticcheck are the
// ones of tools/go.mod, if there is one.
func Lint() []string {
	return []string{"sh", "-euc", `
sluice check
go vet ./...
test -e tools/go.mod || exit 0
found=$(find . -name '*.go' ! -name '*_bpfe*' ! -path './out/*' ! -path './ci/*' -exec go tool -modfile=tools/go.mod gofumpt -l {} +)
test -z "$found" || { echo "not gofumpt-ed:"; echo "$found"; exit 1; }
go tool -modfile=tools/go.mod staticcheck ./...
`}
}

// Test is the command that runs tests, and the value of CGO_ENABLED for it: the
// race detector needs cgo.
func Test(packages []string, run string, race bool) (args []string, cgo string) {
	args, cgo = []string{"go", "test", "-timeout", "20m"}, "0"
	if race {
		args, cgo = append(args, "-race"), "1"
	}
	if run = strings.TrimSpace(run); run != "" {
		args = append(args, "-run", run)
	}
	return append(args, packages...), cgo
}
