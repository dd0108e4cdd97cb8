package main

import (
	"flag"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
)

const helpHead = `sluice-probe measures every HTTP request that this machine's services answer.

Usage:
  sluice-probe [flags]
  sluice-probe clean [flags]      remove what a killed daemon has left

Examples:
  sudo sluice-probe
      measures the whole machine with the built-in object
  curl --unix-socket /run/sluice-probe.sock http://probe/metrics
      what it has counted
  sudo sluice-probe --listen unix:/run/sluice-probe.sock --listen tcp::9465 \
      --tls-cert tls.crt --tls-key tls.key --tls-client-ca ca.crt --allow-spiffe-id 'spiffe://shop/ns/sluice/sa/*'
      lets others read over TLS, and those with a SPIFFE id load objects
  sudo sluice-probe --object probe.o --bundle probe.o.sigstore.json --key cosign.pub
      loads another object, signed by a key
  sudo sluice-probe --object probe.o --digest "$(sluice bpf verify --quiet -o digest probe.o --certificate-identity … )"
      the same for one that was signed by an identity: who is unprivileged verifies it
  sudo sluice-probe --cgroup /sys/fs/cgroup/shop.slice --pin none
      measures one group, and leaves nothing behind if it is killed

Flags, each also as environment variable (--log-format is SLUICE_PROBE_LOG_FORMAT; lists are separated by commas):
`

const helpTail = `
Exit status: 0 ended as asked, 1 something is wrong with the machine or the object, 2 with the flags.
`

// help prints everything, in the order of the alphabet.
func help(f *flag.FlagSet, w io.Writer) {
	fmt.Fprint(w, helpHead)
	f.VisitAll(func(f *flag.Flag) {
		value, text := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && !strings.Contains(text, "(default") {
			text += fmt.Sprintf(" (default %s)", f.DefValue)
		}
		fmt.Fprintf(w, "  --%-24s %s\n", strings.TrimSpace(f.Name+" "+value), text)
	})
	fmt.Fprint(w, helpTail)
}

// version is that of this build.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// memoryLimit is what the Go runtime aims at, binary aside: enough for the default
// number of workloads, three times over.
const (
	memoryLimit       = 20 << 20
	memoryOfAWorkload = 48 << 10
	usualWorkloads    = 256
)

// limitMemory makes the collector of garbage keep the daemon small, unless the
// environment says otherwise: it allocates a few megabytes a second and holds
// little, so a smaller heap costs next to nothing.
func limitMemory(workloads int, env func(string) (string, bool)) {
	if _, ok := env("GOGC"); !ok {
		debug.SetGCPercent(50)
	}
	if _, ok := env("GOMEMLIMIT"); !ok {
		debug.SetMemoryLimit(memoryLimit + memoryOfAWorkload*int64(max(0, workloads-usualWorkloads)))
	}
}
