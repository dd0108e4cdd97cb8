// Command underprofile runs a program as a container runtime does that was given
// policies/seccomp-probe.json: the filter first, then execve.
package main

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/confine"
	"github.com/sluice-cd/sluice/policies"
)

func main() {
	runtime.LockOSThread()
	raw, err := policies.FS.ReadFile("seccomp-probe.json")
	check(err)
	profile, err := confine.ParseProfile(raw)
	check(err)
	_, err = profile.Install()
	check(err)
	check(unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
}
