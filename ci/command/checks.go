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

// unstamped keeps go from asking git for the commit: the source comes without the
// objects of its history, so git knows none and go gives up.
const unstamped = `export GOFLAGS="${GOFLAGS:-} -buildvcs=false"`

// Lint is the command that checks the Go source: every module of it with vet, and
// with gofumpt and staticcheck where tools/go.mod has them. What is generated is
// not looked at, and neither is a module of Dagger without what its engine generates.
func Lint() []string {
	return []string{"sh", "-euc", unstamped + `
root=$PWD tools=
test ! -e tools/go.mod || tools=$(go tool -modfile=tools/go.mod)
has() { case "$tools" in *"$1"*) return 0 ;; esac; return 1; }
if has mvdan.cc/gofumpt; then
  found=$(find . -name '*.go' ! -name '*_bpfe*' ! -name '*.gen.go' ! -path './out/*' ! -path '*/vendor/*' ! -path '*/testdata/*' -exec go tool -modfile=tools/go.mod gofumpt -l {} +)
  test -z "$found" || { echo "not gofumpt-ed:" >&2; echo "$found" >&2; exit 1; }
fi
find . -name go.mod ! -path './out/*' ! -path '*/vendor/*' ! -path '*/testdata/*' | sort >/tmp/modules
while read -r module; do
  cd "$root/$(dirname "$module")"
  ! grep -q '^module dagger/' go.mod || continue
  packages=$(go list ./...)
  test -n "$packages" || continue
  go vet ./...
  ! has honnef.co/go/tools/cmd/staticcheck || go tool -modfile="$root/tools/go.mod" staticcheck ./...
done </tmp/modules
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
	shell := []string{"sh", "-euc", unstamped + `; exec "$@"`, "test"}
	return append(append(shell, args...), packages...), cgo
}
