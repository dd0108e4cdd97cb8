package confine

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Capability is one of the kernel's, by number: unix.CAP_BPF and so on.
type Capability uint

// String is its name without "CAP_", in small letters, if it is one that Sluice
// has to do with.
func (c Capability) String() string {
	switch c {
	case unix.CAP_BPF:
		return "bpf"
	case unix.CAP_NET_ADMIN:
		return "net_admin"
	case unix.CAP_PERFMON:
		return "perfmon"
	case unix.CAP_SYS_ADMIN:
		return "sys_admin"
	}
	return fmt.Sprint(uint(c))
}

// capabilityVersion is _LINUX_CAPABILITY_VERSION_3, which has 64 bits a set.
const capabilityVersion = 0x20080522

// Held reports whether the calling thread can use the capability now.
func Held(c Capability) (bool, error) {
	sets, err := capabilities()
	if err != nil {
		return false, err
	}
	return sets[c/32].Effective&(1<<(c%32)) != 0, nil
}

func capabilities() (sets [2]unix.CapUserData, err error) {
	header := unix.CapUserHeader{Version: capabilityVersion}
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return sets, fmt.Errorf("reading capabilities: %w", err)
	}
	return sets, nil
}

// keepCapabilities empties all five sets of every thread but for those to keep,
// which stay in the effective, permitted and bounding sets.
func keepCapabilities(keep []Capability) error {
	var sets [2]unix.CapUserData
	kept := map[Capability]bool{}
	for _, c := range keep {
		kept[c] = true
		sets[c/32].Effective |= 1 << (c % 32)
		sets[c/32].Permitted |= 1 << (c % 32)
	}
	if err := emptyBounding(kept); err != nil {
		return err
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil {
		return fmt.Errorf("emptying the ambient set: %w", err)
	}
	header := unix.CapUserHeader{Version: capabilityVersion} // of the calling thread: each in turn
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
	if err := threadsError(errno); err != nil {
		return fmt.Errorf("keeping %v: %w", keep, err)
	}
	return nil
}

// emptyBounding takes from the bounding set what is not kept. Without
// CAP_SETPCAP, as in a container, that is refused, and does no harm: only
// execve would look at it, which no_new_privs and the filter disarm.
func emptyBounding(kept map[Capability]bool) error {
	may, err := Held(unix.CAP_SETPCAP)
	if err != nil || !may {
		return err
	}
	for c := Capability(0); ; c++ {
		_, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return nil // the kernel knows no capability of this number
		}
		if kept[c] {
			continue
		}
		if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c), 0); err != nil {
			return fmt.Errorf("dropping %v from the bounding set: %w", c, err)
		}
	}
}
