package local

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/cgroup"
)

// socket is a TCP socket of another process, borrowed with pidfd_getfd(2).
type socket struct {
	fd        int
	cookie    uint64
	local     netip.AddrPort
	listening bool
	multipath bool // MPTCP, which a sockmap refuses
}

func (s socket) close() { _ = unix.Close(s.fd) }

// sockets borrows every TCP socket that a process of the group holds. The
// caller closes them. A socket held by several processes is returned once.
func sockets(g cgroup.Group) ([]socket, error) {
	pids, err := g.Processes()
	if err != nil {
		return nil, err
	}
	var found []socket
	seen := map[uint64]bool{}
	for _, pid := range pids {
		err := eachSocket(pid, func(s socket) {
			if seen[s.cookie] {
				s.close()
				return
			}
			seen[s.cookie] = true
			found = append(found, s)
		})
		if err != nil {
			closeAll(found)
			return nil, err
		}
	}
	return found, nil
}

func closeAll(list []socket) {
	for _, s := range list {
		s.close()
	}
}

// eachSocket borrows the TCP sockets of one process. A process that ended
// meanwhile has none.
func eachSocket(pid int, yield func(socket)) error {
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	for _, entry := range fds {
		link, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "fd", entry.Name()))
		if err != nil || !strings.HasPrefix(link, "socket:") {
			continue
		}
		n, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) {
			continue // closed meanwhile
		}
		if err != nil {
			return fmt.Errorf("borrowing a socket of process %d: %w", pid, err)
		}
		s, ok := inspect(fd)
		if !ok {
			_ = unix.Close(fd)
			continue
		}
		yield(s)
	}
	return nil
}

// inspect reports what kind of TCP socket fd is; ok is false for anything else.
func inspect(fd int) (s socket, ok bool) {
	proto, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || (proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_MPTCP) {
		return s, false
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return s, false
	}
	accepts, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return s, false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return s, false
	}
	s = socket{fd: fd, cookie: cookie, listening: accepts == 1, multipath: proto == unix.IPPROTO_MPTCP}
	switch a := name.(type) {
	case *unix.SockaddrInet4:
		s.local = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		s.local = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
	default:
		return s, false
	}
	return s, true
}

// connections counts the connections that the group has on a port: those that it
// has accepted and not yet closed, and those that wait to be accepted on any of
// its ports.
func connections(g cgroup.Group, port uint16) (int, error) {
	list, err := sockets(g)
	if err != nil {
		return 0, err
	}
	defer closeAll(list)
	n := 0
	for _, s := range list {
		if s.listening {
			// Of a listening socket tcpi_unacked is the length of its queue.
			if info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				n += int(info.Unacked)
			}
		} else if s.local.Port() == port {
			if _, err := unix.Getpeername(s.fd); err == nil {
				n++
			}
		}
	}
	return n, nil
}
