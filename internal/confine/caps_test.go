package confine

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCapabilitiesAreCalledAsTheKernelCallsThem(t *testing.T) {
	for c, want := range map[Capability]string{
		unix.CAP_BPF: "bpf", unix.CAP_NET_ADMIN: "net_admin", unix.CAP_PERFMON: "perfmon", unix.CAP_SYS_ADMIN: "sys_admin", 63: "63",
	} {
		if got := c.String(); got != want {
			t.Errorf("capability %d is called %q, want %q", uint(c), got, want)
		}
	}
}

// With cgo the Go runtime does not know every thread, and the kernel's number
// would not tell anybody what to do.
func TestABinaryThatCannotBeConfinedSaysHowToBuildIt(t *testing.T) {
	if err := threadsError(syscall.ENOTSUP); err == nil || !strings.Contains(err.Error(), "CGO_ENABLED=0") {
		t.Errorf("got %v, want advice", err)
	}
	if err := threadsError(syscall.EPERM); err != syscall.EPERM { //nolint:errorlint // as it is
		t.Errorf("got %v, want EPERM", err)
	}
}
