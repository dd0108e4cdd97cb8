package build

import (
	"fmt"
	"runtime"
	"strings"
)

// Platform is an operating system and a processor architecture in Go's words.
// Its text form, also in JSON, is that of OCI: "linux/arm64", "linux/arm/v7".
type Platform struct {
	OS, Arch string
	// Variant is the ARM version, "v5" to "v7"; empty for everything but arm.
	Variant string
}

// UnknownPlatformError is a platform that this package cannot build and check.
type UnknownPlatformError struct {
	Name  string
	Known []string
}

func (e *UnknownPlatformError) Error() string {
	return fmt.Sprintf("unknown platform %q (known: %s)", e.Name, strings.Join(e.Known, ", "))
}

// known lists what Compile builds; the check of a result knows each of them.
var known = []Platform{
	{"linux", "amd64", ""},
	{"linux", "arm64", ""},
	{"linux", "arm", "v7"},
	{"linux", "riscv64", ""},
	{"darwin", "amd64", ""},
	{"darwin", "arm64", ""},
	{"windows", "amd64", ""},
	{"windows", "arm64", ""},
	{"linux", "386", ""},
	{"linux", "arm", "v5"},
	{"linux", "arm", "v6"},
	{"linux", "loong64", ""},
	{"linux", "ppc64le", ""},
	{"linux", "s390x", ""},
}

// DefaultPlatforms returns the eight platforms a release is built for.
func DefaultPlatforms() []Platform {
	return append([]Platform(nil), known[:8]...)
}

// Native returns the platform this process runs on.
func Native() Platform {
	p := Platform{OS: runtime.GOOS, Arch: runtime.GOARCH}
	if p.Arch == "arm" {
		p.Variant = "v7"
	}
	return p
}

// ParsePlatform reads "os/arch" or "os/arch/variant". An arm without a
// variant is v7, arm64/v8 is arm64. The error is an *UnknownPlatformError.
func ParsePlatform(s string) (Platform, error) {
	name := s
	switch {
	case strings.HasSuffix(s, "/arm"):
		name = s + "/v7"
	case strings.HasSuffix(s, "/arm64/v8"):
		name = strings.TrimSuffix(s, "/v8")
	}
	var names []string
	for _, p := range known {
		if p.String() == name {
			return p, nil
		}
		names = append(names, p.String())
	}
	return Platform{}, &UnknownPlatformError{Name: s, Known: names}
}

// String returns the OCI form, for example "linux/arm/v7".
func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Dir returns the platform's directory name, for example "linux_arm64".
// The default variant v7 is not part of it: "linux_arm", but "linux_armv6".
func (p Platform) Dir() string {
	dir := p.OS + "_" + p.Arch
	if p.Variant != "" && p.Variant != "v7" {
		dir += p.Variant
	}
	return dir
}

// Exe returns the suffix of executables, ".exe" on Windows.
func (p Platform) Exe() string {
	if p.OS == "windows" {
		return ".exe"
	}
	return ""
}

// MarshalText returns String.
func (p Platform) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePlatform.
func (p *Platform) UnmarshalText(text []byte) error {
	q, err := ParsePlatform(string(text))
	if err == nil {
		*p = q
	}
	return err
}

// env returns the variables that select the platform. Every level is named,
// so that none is taken from the caller's environment.
func (p Platform) env() []string {
	return []string{
		"GOOS=" + p.OS,
		"GOARCH=" + p.Arch,
		"GOARM=" + strings.TrimPrefix(p.Variant, "v"),
		"GO386=sse2",
		"GOAMD64=v1",
		"GOARM64=v8.0",
		"GOPPC64=power8",
		"GORISCV64=rva20u64",
	}
}
