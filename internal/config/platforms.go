package config

import "strings"

// platforms are the ports of Go that need no cgo and can run a service.
var platforms = strings.Fields(`
	linux/amd64 linux/arm64 linux/arm linux/riscv64 linux/386 linux/loong64 linux/mips linux/mips64 linux/mips64le linux/mipsle
	linux/ppc64 linux/ppc64le linux/s390x
	darwin/amd64 darwin/arm64 windows/amd64 windows/arm64 windows/386
	freebsd/amd64 freebsd/arm64 freebsd/arm freebsd/386 freebsd/riscv64 netbsd/amd64 netbsd/arm64 netbsd/arm netbsd/386
	openbsd/amd64 openbsd/arm64 openbsd/arm openbsd/386 dragonfly/amd64 solaris/amd64 illumos/amd64 aix/ppc64 plan9/amd64`)

// platformHint says what an unknown platform may have been meant to be.
func platformHint(name string) string {
	other := strings.NewReplacer(
		"x86_64", "amd64", "x64", "amd64", "aarch64", "arm64", "armv7", "arm", "armhf", "arm", "i386", "386", "x86", "386",
		"macos", "darwin", "osx", "darwin", "_", "/", "-", "/").Replace(strings.ToLower(name))
	if contains(platforms, other) {
		return " (did you mean " + other + "?)"
	}
	if strings.HasPrefix(other, "linux/arm/") {
		return " (did you mean linux/arm?)"
	}
	if hint := didYouMean(other, platforms); hint != "" {
		return hint
	}
	return " (write linux/amd64; \"go tool dist list\" names all)"
}
