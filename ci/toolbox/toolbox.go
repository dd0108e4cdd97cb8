// Package toolbox says what an image needs for each kind of job: the pinned
// image itself, the tools that are added to it, and where Go modules come from.
//
// A base image that has the tools already is used as it is, without any network.
package toolbox

import (
	"fmt"
	"strings"
)

// Base is the image that everything runs in unless the caller names another:
// Debian 12 with Go. The tag is for people, the digest is what is pulled.
const Base = "golang:1.26.3-bookworm@sha256:386d475a660466863d9f8c766fec64d7fdad3edac2c6a05020c09534d71edb4b"

// Script is where the project's own script is mounted that installs tools.
const Script = "/tmp/setup.sh"

// Certificates is where the image has its certificate authorities, which sluice
// puts into the image that it makes.
const Certificates = "/etc/ssl/certs/ca-certificates.crt"

// ModulesDir is where a folder of Go modules is mounted.
const ModulesDir = "/modules"

// Job is a kind of work, by the tools it needs.
type Job int

// The jobs.
const (
	Compile Job = iota // Go alone
	Pack               // UPX; the packed binaries are run
	BPF                // the compiler of the eBPF objects
	Test               // everything that the tests ask for
	Kernels            // virtual machines
	Serve              // what a rollout needs of the kernel
)

// Privileged tells whether a job needs the kernel as root has it: to load eBPF
// programs, or to run binaries in namespaces of their own.
func (j Job) Privileged() bool { return j == Pack || j == Test || j == Serve }

// tool is a command and the Debian package that has it.
type tool struct{ command, pkg, version string }

// The objects are compared byte for byte, so their compiler is pinned.
var tools = map[Job][]tool{
	BPF: {
		{"clang-19", "clang-19", "1:19.1.7-3~deb12u1"},
		{"llvm-strip-19", "llvm-19", "1:19.1.7-3~deb12u1"},
		{"/usr/include/bpf/bpf_helpers.h", "libbpf-dev", ""},
		{"/usr/include/stdlib.h", "libc6-dev", ""},
	},
}

// gone is what to do when Debian has replaced a pinned version.
const gone = "not installed: $need - Debian keeps only the newest of a version: give an image with Go and these tools with --clang"

// setups are the jobs whose tools the project's own script installs.
var setups = map[Job]string{Pack: "demo", Serve: "demo", Test: "test", Kernels: "kernels"}

// Setup is the shell script that adds what is missing for a job. It is empty
// when nothing is needed.
func Setup(j Job) string {
	if what, ok := setups[j]; ok {
		return "sh " + Script + " " + what
	}
	if len(tools[j]) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("need=\n")
	for _, t := range tools[j] {
		test := "command -v " + t.command + " >/dev/null"
		if strings.HasPrefix(t.command, "/") {
			test = "test -e " + t.command
		}
		pkg := t.pkg
		if t.version != "" {
			pkg += "=" + t.version
		}
		fmt.Fprintf(&b, "%s || need=\"$need %s\"\n", test, pkg)
	}
	b.WriteString("test -z \"$need\" || { apt-get update -qq; apt-get install -y -qq --no-install-recommends $need || { echo \"" + gone + "\" >&2; exit 1; }; }")
	return b.String()
}

// GoProxy is the value of GOPROXY: a folder of modules that was given, then a
// proxy that was named. It is empty when neither was, and the image decides.
func GoProxy(folder bool, proxy string) string {
	if !folder {
		return proxy
	}
	if proxy == "" {
		return "file://" + ModulesDir + ",off"
	}
	return "file://" + ModulesDir + "," + proxy
}
