package local

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// holder names the process that listens on an address, as far as that can be
// told.
func holder(front netip.AddrPort) string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return ""
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		held := false
		_ = eachSocket(pid, func(s socket) {
			defer s.close()
			same := s.local.Addr() == front.Addr() || s.local.Addr().IsUnspecified() || front.Addr().IsUnspecified()
			held = held || s.listening && s.local.Port() == front.Port() && same
		})
		if held {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			return fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
		}
	}
	return ""
}

// servesAt names another service of Sluice with the same front address. Nobody
// listens there, so that a socket would not find it.
func servesAt(front netip.AddrPort, name string) string {
	entries, err := os.ReadDir(runDir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		if e.Name() == name {
			continue
		}
		if st, err := Look(e.Name()); err == nil && st.Version != "" && st.Front == front.String() {
			return e.Name()
		}
	}
	return ""
}
