// Package split divides new TCP connections to one address between two
// listening sockets, in the kernel.
//
// No process listens at the front address: an sk_lookup program answers for it
// and hands each new connection to one of two sockets, drawn by weight. If the
// drawn slot is empty, for example because the process behind it has just died,
// the same run of the program takes the other one. Link, maps and program are
// pinned, so the split goes on when every process of ours has ended.
package split

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" split split.bpf.c

// Slot is one of the two places for a socket.
type Slot uint32

// Full is the weight of a slot that gets every new connection.
const Full = 10000

// Splitter is a front address with two slots.
type Splitter struct {
	dir   string
	objs  splitObjects
	link  link.Link
	front netip.AddrPort
}

// StaleError means that what is pinned is not what this version of Sluice would
// have pinned: it is of another version, or it was tampered with.
type StaleError = bpf.StaleError

// MultipathError means that a socket listens with MPTCP, which a sockmap
// refuses.
type MultipathError struct{ Err error }

func (e *MultipathError) Error() string {
	return fmt.Sprintf("the service listens with Multipath TCP, which cannot be split: %v", e.Err)
}

func (e *MultipathError) Unwrap() error { return e.Err }

// Hint says how to turn it off.
func (e *MultipathError) Hint() string {
	return "let it listen with plain TCP; in Go: GODEBUG=multipathtcp=0 in service.env"
}

// SocketError means that a file descriptor is no listening TCP socket.
type SocketError struct{ Why string }

func (e *SocketError) Error() string {
	return "not a socket that new connections can be given to: " + e.Why
}

// Indices of the map weight, as in the program.
const (
	weightShare = 0
	weightSeed  = 1
)

// The names of the pins.
const (
	pinLink    = "link"
	pinProgram = "program"
	pinSockets = "sockets"
	pinWeight  = "weight"
	pinCounts  = "counts"
)

// Open takes over the splitter that is pinned in dir, or makes one there. An
// unspecified front address is every address of this machine. What is pinned
// and not ours is a *StaleError.
func Open(dir string, front netip.AddrPort) (*Splitter, error) {
	_, err := os.Stat(filepath.Join(dir, pinLink))
	if err == nil {
		return takeOver(dir, front)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("looking for a pinned splitter: %w", err)
	}
	if err := RemovePins(dir); err != nil { // of a start that was cut short
		return nil, err
	}
	s, err := create(dir, front)
	if err != nil {
		return nil, errors.Join(err, RemovePins(dir))
	}
	return s, nil
}

// create loads and attaches the program. The link is pinned last: what has no
// pinned link is not there.
func create(dir string, front netip.AddrPort) (*Splitter, error) {
	spec, err := loadSplit()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded splitter: %w", err)
	}
	if err := setFront(spec, front); err != nil {
		return nil, err
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err != nil {
		return nil, fmt.Errorf("loading the traffic splitter: %w", err)
	}
	defer coll.Close()
	s := &Splitter{dir: dir, front: front}
	if err := coll.Assign(&s.objs); err != nil {
		return nil, fmt.Errorf("loading the traffic splitter: %w", err)
	}
	// Of the hash that draws, so that nobody can choose a slot by its port.
	if err := s.objs.Weight.Update(uint32(weightSeed), rand.Uint32(), ebpf.UpdateAny); err != nil {
		return nil, errors.Join(fmt.Errorf("setting the key of the draw: %w", err), s.Close())
	}
	if err := s.pin(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Splitter) pin() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("making the folder of the splitter: %w", err)
	}
	for name, pin := range s.pins() {
		if err := pin.Pin(filepath.Join(s.dir, name)); err != nil {
			return fmt.Errorf("pinning the splitter's %s: %w", name, err)
		}
	}
	ns, err := os.Open(netNamespace)
	if err != nil {
		return fmt.Errorf("opening the network namespace: %w", err)
	}
	defer ns.Close()
	l, err := link.AttachNetNs(int(ns.Fd()), s.objs.Split)
	if err != nil {
		return fmt.Errorf("attaching the traffic splitter: %w", err)
	}
	s.link = l
	if err := s.link.Pin(filepath.Join(s.dir, pinLink)); err != nil {
		return fmt.Errorf("pinning the splitter's link: %w", err)
	}
	return nil
}

func (s *Splitter) pins() map[string]interface{ Pin(string) error } {
	return map[string]interface{ Pin(string) error }{
		pinProgram: s.objs.Split, pinSockets: s.objs.Sockets, pinWeight: s.objs.Weight, pinCounts: s.objs.Counts,
	}
}

// setFront writes the address into the program's constants.
func setFront(spec *ebpf.CollectionSpec, front netip.AddrPort) error {
	addr := front.Addr().As16() // IPv4 as ::ffff:a.b.c.d
	if err := spec.Variables["front_addr"].Set(addr); err != nil {
		return fmt.Errorf("setting the front address: %w", err)
	}
	if err := spec.Variables["front_port"].Set(uint32(front.Port())); err != nil {
		return fmt.Errorf("setting the front port: %w", err)
	}
	return nil
}

// SetSocket puts a listening TCP socket into a slot. Established connections
// stay where they are. Errors: *MultipathError for a socket of that kind,
// *SocketError for one that does not listen.
func (s *Splitter) SetSocket(slot Slot, fd int) error {
	// A sockmap takes connected and UDP sockets too; no connection could be
	// given to them.
	if err := listening(fd); err != nil {
		return err
	}
	if err := s.objs.Sockets.Update(uint32(slot), uint64(fd), ebpf.UpdateAny); err != nil {
		return fmt.Errorf("putting a socket into slot %d: %w", slot, err)
	}
	return nil
}

// listening reports why a socket cannot take new TCP connections.
func listening(fd int) error {
	protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return &SocketError{Why: err.Error()}
	}
	if protocol == unix.IPPROTO_MPTCP {
		return &MultipathError{Err: unix.EOPNOTSUPP}
	}
	if protocol != unix.IPPROTO_TCP {
		return &SocketError{Why: fmt.Sprintf("its protocol is %d, not TCP", protocol)}
	}
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return &SocketError{Why: "it does not listen"}
	}
	return nil
}

// ClearSocket empties a slot: no new connection goes there.
func (s *Splitter) ClearSocket(slot Slot) error {
	err := s.objs.Sockets.Delete(uint32(slot))
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("emptying slot %d: %w", slot, err)
	}
	return nil
}

// Occupied returns the cookie of the socket in a slot; ok is false if there is
// none.
func (s *Splitter) Occupied(slot Slot) (cookie uint64, ok bool, err error) {
	err = s.objs.Sockets.Lookup(uint32(slot), &cookie)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("reading slot %d: %w", slot, err)
	}
	return cookie, true, nil
}

// SetWeight gives slot 1 a share of the new connections, 0 … Full, and slot 0
// the rest.
func (s *Splitter) SetWeight(share uint32) error {
	if share > Full {
		return fmt.Errorf("setting the weight: %d is more than %d", share, Full)
	}
	if err := s.objs.Weight.Update(uint32(weightShare), share, ebpf.UpdateAny); err != nil {
		return fmt.Errorf("setting the weight: %w", err)
	}
	return nil
}

// Weight returns the share of slot 1.
func (s *Splitter) Weight() (uint32, error) {
	var share uint32
	if err := s.objs.Weight.Lookup(uint32(weightShare), &share); err != nil {
		return 0, fmt.Errorf("reading the weight: %w", err)
	}
	return share, nil
}

// Count is how many connections a slot was given.
type Count struct {
	Assigned uint64 // all
	Fallback uint64 // of these, because the other slot was drawn and empty
}

// Connections returns what each slot was given so far.
func (s *Splitter) Connections() ([2]Count, error) {
	var total [2]Count
	for slot := range total {
		var cpus []splitCount
		if err := s.objs.Counts.Lookup(uint32(slot), &cpus); err != nil {
			return total, fmt.Errorf("reading the counters: %w", err)
		}
		for _, c := range cpus {
			total[slot].Assigned += c.Assigned
			total[slot].Fallback += c.Fallback
		}
	}
	return total, nil
}

// Close lets go of the splitter; the split goes on.
func (s *Splitter) Close() error {
	err := s.objs.Close()
	if s.link != nil {
		err = errors.Join(err, s.link.Close())
	}
	return err
}

// Remove ends the split, at once and for whoever else holds it: connections to
// the front address are refused. Close is still needed.
func (s *Splitter) Remove() error {
	if err := s.link.Detach(); err != nil {
		return errors.Join(fmt.Errorf("detaching the traffic splitter: %w", err), RemovePins(s.dir))
	}
	return RemovePins(s.dir)
}
