package split

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
)

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
		return nil, &StaleError{Dir: dir, Why: err.Error()}
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return s, nil
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
// becomes on this kernel: the link runs the pinned program, with the same tag,
// over the pinned maps, for the same front. The error is a *StaleError.
func (s *Splitter) Check() error {
	stale := func(format string, args ...any) error {
		return &StaleError{Dir: s.dir, Why: fmt.Sprintf(format, args...)}
	}
	linkInfo, err := s.link.Info()
	if err != nil {
		return stale("its link cannot be read: %v", err)
	}
	info, err := s.objs.Split.Info()
	if err != nil {
		return stale("its program cannot be read: %v", err)
	}
	if id, _ := info.ID(); linkInfo.Program != id {
		return stale("its link runs program %d, pinned is %d", linkInfo.Program, id)
	}
	want, err := freshTag(s.front)
	if err != nil {
		return err
	}
	if info.Tag != want {
		return stale("its program has tag %s, expected %s", info.Tag, want)
	}
	used, _ := info.MapIDs()
	for _, m := range []*ebpf.Map{s.objs.Sockets, s.objs.Weight, s.objs.Counts} {
		mapInfo, err := m.Info()
		if err != nil {
			return stale("a map cannot be read: %v", err)
		}
		if id, _ := mapInfo.ID(); !slices.Contains(used, id) {
			return stale("the program does not use pinned map %d", id)
		}
	}
	return s.checkFront(used)
}

// freshTag is the tag that the embedded program gets on this kernel: it is
// loaded, asked and thrown away.
func freshTag(front netip.AddrPort) (string, error) {
	spec, err := loadSplit()
	if err != nil {
		return "", fmt.Errorf("reading the embedded splitter: %w", err)
	}
	if err := setFront(spec, front); err != nil {
		return "", err
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err != nil {
		return "", fmt.Errorf("loading the traffic splitter: %w", err)
	}
	defer coll.Close()
	info, err := coll.Programs["split"].Info()
	if err != nil {
		return "", fmt.Errorf("reading the traffic splitter: %w", err)
	}
	return info.Tag, nil
}

// checkFront compares the constants of the pinned program with the front.
func (s *Splitter) checkFront(maps []ebpf.MapID) error {
	want := s.front.Addr().As16()
	for _, id := range maps {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return fmt.Errorf("reading a map of the splitter: %w", err)
		}
		var constants [20]byte
		is := m.ValueSize() == uint32(len(constants)) && m.Lookup(uint32(0), &constants) == nil
		_ = m.Close()
		if !is {
			continue
		}
		var same bool
		for _, layout := range [][2]int{{0, 4}, {16, 0}} { // port before or after the address
			port := constants[layout[0] : layout[0]+4]
			addr := constants[layout[1] : layout[1]+16]
			p := uint32(port[0]) | uint32(port[1])<<8 | uint32(port[2])<<16 | uint32(port[3])<<24
			same = same || p == uint32(s.front.Port()) && slices.Equal(addr, want[:])
		}
		if same {
			return nil
		}
	}
	return &StaleError{Dir: s.dir, Why: "it answers for another address"}
}

// RemovePins ends a splitter and removes its folder. It is no error if there is
// none.
func RemovePins(dir string) error {
	// The link goes first: without it there is no splitter, only garbage.
	for _, name := range []string{pinLink, pinProgram, pinSockets, pinWeight, pinCounts, ""} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("removing the pinned splitter: %w", err)
		}
	}
	return nil
}
