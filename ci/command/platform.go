package command

import (
	"fmt"
	"slices"
	"strings"
)

// known are the platforms that sluice can build for.
var known = []string{
	"linux/amd64", "linux/arm64", "linux/arm", "linux/riscv64",
	"darwin/amd64", "darwin/arm64", "windows/amd64", "windows/arm64",
}

// UnknownPlatformError is a platform that is not built.
type UnknownPlatformError struct {
	Name  string
	Known []string
}

func (e *UnknownPlatformError) Error() string {
	return fmt.Sprintf("unknown platform %q (known: %s)", e.Name, strings.Join(e.Known, ", "))
}

// CheckPlatforms refuses what is no platform at all, before anything is built.
func CheckPlatforms(platforms []string) error {
	for _, p := range platforms {
		os, arch, ok := strings.Cut(p, "/")
		if !ok || os == "" || arch == "" || strings.ContainsAny(p, `*?[]!\. `) {
			return &UnknownPlatformError{p, known}
		}
	}
	return nil
}

// Select is the list of patterns that keep the wanted platforms of those that
// were made: made holds folders like linux_amd64.
func Select(platforms, made []string) ([]string, error) {
	folders := map[string]string{}
	var names []string
	for _, m := range made {
		folder := strings.TrimSuffix(m, "/")
		name := strings.Replace(folder, "_", "/", 1)
		folders[name] = folder
		names = append(names, name)
	}
	var include []string
	for _, p := range platforms {
		folder, ok := folders[p]
		if !ok {
			return nil, &UnknownPlatformError{p, names}
		}
		if pattern := folder + "/**"; !slices.Contains(include, pattern) {
			include = append(include, pattern)
		}
	}
	return include, nil
}
