package sandbox

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
)

// stateListen is TCP_LISTEN of include/net/tcp_states.h.
const stateListen = "0A"

// parseListeners reads the format of /proc/net/tcp and tcp6 and returns the
// local addresses of listening sockets. Lines it cannot read are an error.
func parseListeners(r io.Reader) ([]netip.AddrPort, error) {
	var found []netip.AddrPort
	lines := bufio.NewScanner(r)
	for first := true; lines.Scan(); first = false {
		fields := strings.Fields(lines.Text())
		if first || len(fields) == 0 {
			continue
		}
		if len(fields) < 4 {
			return nil, fmt.Errorf("socket table: line %q has %d fields", lines.Text(), len(fields))
		}
		if fields[3] != stateListen {
			continue
		}
		addr, err := parseAddr(fields[1])
		if err != nil {
			return nil, err
		}
		found = append(found, addr)
	}
	return found, lines.Err()
}

// parseAddr reads "0100007F:1F90": the address as 32-bit words in the byte
// order of the machine (all of ours are little-endian), the port as a number.
func parseAddr(s string) (netip.AddrPort, error) {
	ip, port, _ := strings.Cut(s, ":")
	raw, err := hex.DecodeString(ip)
	if err != nil || len(raw) != 4 && len(raw) != 16 {
		return netip.AddrPort{}, fmt.Errorf("socket table: address %q", s)
	}
	number, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("socket table: port of %q: %w", s, err)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(addr.Unmap(), uint16(number)), nil
}

// listeners returns the addresses that somebody listens on in the network
// namespace of a process.
func listeners(pid int) ([]netip.AddrPort, error) {
	var all []netip.AddrPort
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if os.IsNotExist(err) && table == "tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("reading the listening sockets: %w", err)
		}
		found, err := parseListeners(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name(), err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// reachable returns the address to dial for a listening address.
func reachable(a netip.AddrPort) netip.AddrPort {
	switch {
	case !a.Addr().IsUnspecified():
		return a
	case a.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), a.Port())
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
}

// choose returns the addresses to ask: those with the port, or all.
func choose(all []netip.AddrPort, port int) []netip.AddrPort {
	var chosen []netip.AddrPort
	for _, a := range all {
		if port == 0 || int(a.Port()) == port {
			chosen = append(chosen, reachable(a))
		}
	}
	return chosen
}

// ports returns the distinct ports in order.
func ports(all []netip.AddrPort) []int {
	var list []int
	for _, a := range all {
		list = append(list, int(a.Port()))
	}
	slices.Sort(list)
	return slices.Compact(list)
}
