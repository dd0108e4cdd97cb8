// Package doctor finds out what this machine can do for Sluice by doing it.
//
// No kernel version is looked at and no configuration file is believed: programs
// are loaded and attached, a socket is taken from another process, a connection is
// steered. It works in a cgroup, namespaces and a child process of its own and
// removes them all. It needs a second at most and does not use the network.
package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
)

// Status is the outcome of one check.
type Status string

// The outcomes. A missing feature is not there; a broken one is there and does not work; a skipped one could not be
// tried, because something before it failed or the privileges are lacking.
const (
	OK      Status = "ok"
	Missing Status = "missing"
	Broken  Status = "broken"
	Skipped Status = "skipped"
)

// Check is what was found out about one thing.
type Check struct {
	Name      string `json:"name"`
	Status    Status `json:"status"`
	What      string `json:"what"`          // what was found: a version, a path, the reason
	Fix       string `json:"fix,omitempty"` // what to do about it; empty if ok
	NeededFor string `json:"needed_for"`
	Optional  bool   `json:"optional,omitempty"` // Sluice does without, and says so when it does
}

// Options says where to look. The zero value works.
type Options struct {
	// OutDir is the folder that releases will be written to; it need not exist. Empty: "out".
	OutDir string
}

// trial is a check that has not been done yet. try returns what it found; its error says why not.
type trial struct {
	name, neededFor, fix string
	optional             bool
	kernel               bool // lies with the kernel, so that lacking privileges explain a refusal
	try                  func(context.Context, *bench) (string, error)
}

// Run does every check, each within a few seconds, and returns them in a fixed order.
func Run(ctx context.Context, o Options) []Check {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	b := newBench(o)
	defer b.close()
	kernel, tools := kernelTrials(), toolTrials()
	checks := make([]Check, len(kernel)+len(tools))
	var wg sync.WaitGroup
	wg.Go(func() { // one after the other: they build on one another
		for i, t := range kernel {
			t.kernel = true
			checks[i] = t.do(ctx, b)
		}
	})
	for i, t := range tools {
		wg.Go(func() { checks[len(kernel)+i] = t.do(ctx, b) })
	}
	wg.Wait()
	return checks
}

// Fit reports whether everything that Sluice cannot do without is ok.
func Fit(checks []Check) bool {
	return !slices.ContainsFunc(checks, func(c Check) bool { return c.Status != OK && !c.Optional })
}

func (t trial) do(ctx context.Context, b *bench) Check {
	c := Check{Name: t.name, NeededFor: t.neededFor, Optional: t.optional, Status: OK}
	if err := ctx.Err(); err != nil {
		c.Status, c.What = Skipped, "there was no time left"
		return c
	}
	what, err := t.try(ctx, b)
	if err == nil {
		c.What = what
		return c
	}
	c.Status, c.What, c.Fix = classify(err), err.Error(), t.fix
	if refused := t.kernel && errors.Is(err, os.ErrPermission); refused && os.Geteuid() != 0 {
		c.Status, c.What, c.Fix = Skipped, "needs root: "+c.What, rootFix
	} else if refused {
		c.Fix = containerFix
	}
	return c
}

const (
	rootFix      = "run it as root: sudo sluice doctor"
	containerFix = "in a container: run it privileged, or with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SYS_PTRACE, a seccomp profile that allows bpf(2), and writable cgroups"
)

// dependsError says that a check was not tried because an earlier one failed.
type dependsError struct{ on string }

func (e dependsError) Error() string { return "not tried, because " + e.on + " is not ok" }

// missingError says that something is not there.
type missingError struct{ what string }

func (e missingError) Error() string { return e.what }

// classify turns an error into a status.
func classify(err error) Status {
	switch {
	case errors.As(err, new(dependsError)):
		return Skipped
	case errors.As(err, new(missingError)):
		return Missing
	case errors.Is(err, os.ErrNotExist), unsupported(err):
		return Missing
	}
	return Broken
}

// unsupported reports the errors by which a kernel says that it does not know a feature.
func unsupported(err error) bool {
	const notSupportedInKernel = syscall.Errno(524) // ENOTSUPP, which leaks from some kernel paths
	for _, errno := range []error{syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOPROTOOPT, notSupportedInKernel, errors.ErrUnsupported, ebpf.ErrNotSupported} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}
