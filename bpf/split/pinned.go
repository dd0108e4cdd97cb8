package split

import (
	"bytes"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
)

// netNamespace is the one of the calling thread.
const netNamespace = "/proc/thread-self/ns/net"

// takeOver opens what is pinned, after making sure that it is what create would
// have made.
func takeOver(dir string, front netip.AddrPort) (_ *Splitter, err error) {
	s := &Splitter{dir: dir, front: front}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := s.openPins(); err != nil {
		return nil, stale(dir, "%w", err)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
}

// stale says why what is pinned cannot be taken over.
func stale(dir, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &StaleError{What: "the traffic splitter", Dir: dir, Why: err.Error(), Err: err}
}

func (s *Splitter) openPins() (err error) {
	if s.link, err = link.LoadPinnedLink(filepath.Join(s.dir, pinLink), nil); err != nil {
		return err
	}
	if s.objs.Split, err = ebpf.LoadPinnedProgram(filepath.Join(s.dir, pinProgram), nil); err != nil {
		return err
	}
	for name, m := range map[string]**ebpf.Map{pinSockets: &s.objs.Sockets, pinWeight: &s.objs.Weight, pinCounts: &s.objs.Counts} {
		if *m, err = ebpf.LoadPinnedMap(filepath.Join(s.dir, name), nil); err != nil {
			return err
		}
	}
	return nil
}

// Check compares the program that is attached with what the embedded object
// becomes on this kernel: the link is attached to this network namespace and
// runs the pinned program, which has the same tag, the same constants and no
// maps but the pinned ones. The error is a *StaleError.
func (s *Splitter) Check() error {
	stale := func(format string, args ...any) error { return stale(s.dir, format, args...) }
	info, err := s.objs.Split.Info()
	if err != nil {
		return stale("its program cannot be read: %w", err)
	}
	id, _ := info.ID()
	if err := s.checkLink(id, stale); err != nil {
		return err
	}
	tag, constants, err := fresh(s.front)
	if err != nil {
		return err
	}
	if info.Tag != tag {
		return stale("its program has tag %s, expected %s", info.Tag, tag)
	}
	used, _ := info.MapIDs()
	for _, m := range []*ebpf.Map{s.objs.Sockets, s.objs.Weight, s.objs.Counts} {
		mapInfo, err := m.Info()
		if err != nil {
			return stale("a map cannot be read: %w", err)
		}
		id, _ := mapInfo.ID()
		at := slices.Index(used, id)
		if at < 0 {
			return stale("the program does not use pinned map %d", id)
		}
		used = slices.Delete(used, at, at+1)
	}
	if len(used) != 1 {
		return stale("the program uses %d maps that are not pinned, expected 1", len(used))
	}
	return checkConstants(used[0], constants, stale)
}

// checkLink makes sure that a link of ours in this network namespace runs the
// program.
func (s *Splitter) checkLink(program ebpf.ProgramID, stale func(string, ...any) error) error {
	info, err := s.link.Info()
	if err != nil {
		return stale("its link cannot be read: %w", err)
	}
	if info.Program != program {
		return stale("its link runs program %d, pinned is %d", info.Program, program)
	}
	ns := info.NetNs()
	if ns == nil || ns.NetnsInode == 0 {
		return stale("its link is detached")
	}
	var here unix.Stat_t
	if err := unix.Stat(netNamespace, &here); err != nil {
		return fmt.Errorf("looking at the network namespace: %w", err)
	}
	if uint64(ns.NetnsInode) != here.Ino {
		return stale("it is attached to network namespace %d, this is %d", ns.NetnsInode, here.Ino)
	}
	return nil
}

// fresh loads the embedded program, to know the tag and the constants that it
// gets on this kernel, and throws it away.
func fresh(front netip.AddrPort) (tag string, constants []byte, err error) {
	spec, err := loadSplit()
	if err != nil {
		return "", nil, fmt.Errorf("reading the embedded splitter: %w", err)
	}
	if err := setFront(spec, front); err != nil {
		return "", nil, err
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err != nil {
		return "", nil, fmt.Errorf("loading the traffic splitter: %w", err)
	}
	defer coll.Close()
	info, err := coll.Programs["split"].Info()
	if err != nil {
		return "", nil, fmt.Errorf("reading the traffic splitter: %w", err)
	}
	constants, err = coll.Maps[".rodata"].LookupBytes(uint32(0))
	if err != nil {
		return "", nil, fmt.Errorf("reading the traffic splitter: %w", err)
	}
	return info.Tag, constants, nil
}

// checkConstants compares the map that holds the front with what it would be.
func checkConstants(id ebpf.MapID, want []byte, stale func(string, ...any) error) error {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return stale("its constants cannot be read: %w", err)
	}
	defer m.Close()
	info, err := m.Info()
	if err != nil {
		return stale("its constants cannot be read: %w", err)
	}
	if got, err := m.LookupBytes(uint32(0)); err != nil || !bytes.Equal(got, want) {
		return stale("it answers for another address")
	}
	if !info.Frozen() {
		return stale("its address can be changed")
	}
	return nil
}

// RemovePins ends a splitter and removes its folder. It is no error if there is
// none.
func RemovePins(dir string) error {
	// The link goes first: without it there is no splitter, only garbage.
	return bpf.RemovePins(dir, pinLink, pinProgram, pinSockets, pinWeight, pinCounts, "")
}
