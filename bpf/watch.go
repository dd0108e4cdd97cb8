package bpf

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Watch is programs attached to a control group. It can tell, at any time,
// whether exactly they are still there.
type Watch struct {
	path   string   // of the control group
	dir    *os.File // the same, open
	group  uint64   // its id
	order  []*watched
	maps   []watchedMap
	pins   *Pins // nil: nothing outlives this process
	checks int
}

type watched struct {
	LoadedProgram
	attach  ebpf.AttachType
	link    link.Link
	program *ebpf.Program // keeps its id from being used again
	maps    []uint32      // ids of those that it uses
}

type watchedMap struct {
	LoadedMap
	live *ebpf.Map
}

// Attach attaches staged programs to a control group, all or nothing. With pins,
// links that were taken over get the new programs, each in one step; otherwise
// what is pinned makes place for what is attached now. A program of somebody
// else at the same place is a *MismatchError: it could hide packets.
func Attach(dir string, s *Staged, programs map[string]ebpf.AttachType, pins *Pins) (_ *Watch, err error) {
	w := &Watch{path: dir, pins: pins}
	inherits := pins != nil && len(pins.links) > 0
	defer func() {
		switch {
		case err == nil:
		case inherits: // the old programs, or some of the new ones, go on
			err = errors.Join(err, w.Release())
		default:
			err = errors.Join(err, w.Close())
		}
	}()
	if w.dir, w.group, err = openGroup(dir); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		w.order = append(w.order, &watched{LoadedProgram: LoadedProgram{Name: name, AttachedTo: dir}, attach: programs[name]})
	}
	if inherits {
		for _, p := range w.order {
			p.link = pins.links[p.Name]
		}
		pins.links = nil
	} else if pins != nil {
		if err := pins.start(s.Maps); err != nil {
			return nil, err
		}
	}
	if err := w.unoccupied(); err != nil {
		return nil, err
	}
	for _, p := range w.order {
		if err := w.put(p, s.Programs[p.Name]); err != nil {
			return nil, err
		}
	}
	if err := w.took(s); err != nil {
		return nil, err
	}
	return w, nil
}

// openGroup opens a control group and returns its id, which is the number of
// its inode.
func openGroup(dir string) (*os.File, uint64, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, 0, fmt.Errorf("opening control group: %w", err)
	}
	id, err := inode(f)
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("reading control group: %w", err), f.Close())
	}
	return f, id, nil
}

func inode(f *os.File) (uint64, error) {
	var stat unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &stat)
	return stat.Ino, err
}

// follow finds a control group that was removed and made anew. The links to the
// old one are of no use any more, though the kernel detaches them only later.
func (w *Watch) follow() error {
	var stat unix.Stat_t
	if err := unix.Stat(w.path, &stat); err != nil || stat.Ino == w.group {
		return nil // what is gone for good is found by put
	}
	dir, id, err := openGroup(w.path)
	if err != nil {
		return err
	}
	_ = w.dir.Close()
	w.dir, w.group = dir, id
	for _, p := range w.order {
		if p.link != nil {
			_ = p.link.Close()
			p.link = nil
		}
	}
	return nil
}

// put makes a link run a program, in one step. A link that is not there, or
// that somebody has detached, is made.
func (w *Watch) put(p *watched, prog *ebpf.Program) error {
	if p.link != nil {
		err := p.link.Update(prog)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.ENOLINK) {
			return fmt.Errorf("replacing program %s: %w", p.Name, err)
		}
		_ = p.link.Close()
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: w.path, Attach: p.attach, Program: prog})
	if err != nil {
		p.link = nil
		return fmt.Errorf("attaching program %s to %s: %w", p.Name, w.path, err)
	}
	p.link = l
	if w.pins != nil {
		return w.pins.pinLink(p.Name, l)
	}
	return nil
}

// took records that the programs of a Staged are now the ones that run.
func (w *Watch) took(s *Staged) error {
	for _, p := range w.order {
		info, err := p.link.Info()
		if err != nil {
			return fmt.Errorf("reading the link of program %s: %w", p.Name, err)
		}
		staged := s.programs[p.Name]
		p.LoadedProgram, p.maps, p.program = staged.LoadedProgram, staged.maps, s.Programs[p.Name]
		p.LinkID, p.AttachType, p.AttachedTo = uint32(info.ID), p.attach.String(), w.path
	}
	w.maps = w.maps[:0]
	for _, m := range s.maps {
		w.maps = append(w.maps, watchedMap{m, s.Maps[m.Name]})
	}
	return nil
}

// Replace puts staged programs in the place of those that are attached, each in
// one step: no packet is missed. What somebody else has replaced, detached or
// unpinned is put right by it. After an error the old programs are in their
// places, as far as the kernel lets them.
func (w *Watch) Replace(s *Staged) error {
	if err := w.follow(); err != nil {
		return err
	}
	if w.pins != nil {
		w.pins.mend(w.maps, w.links())
	}
	for i, p := range w.order {
		err := w.put(p, s.Programs[p.Name])
		if err == nil {
			continue
		}
		for _, done := range w.order[:i+1] {
			err = errors.Join(err, w.put(done, done.program))
		}
		return err
	}
	return w.took(s)
}

// links are those that there are, by program.
func (w *Watch) links() map[string]link.Link {
	list := map[string]link.Link{}
	for _, p := range w.order {
		if p.link != nil {
			list[p.Name] = p.link
		}
	}
	return list
}

// Programs returns what was loaded, by name.
func (w *Watch) Programs() []LoadedProgram {
	list := make([]LoadedProgram, len(w.order))
	for i, p := range w.order {
		list[i] = p.LoadedProgram
	}
	return list
}

// Close detaches everything and removes what was pinned.
func (w *Watch) Close() error {
	var errs []error
	for _, p := range w.order {
		if p.link != nil {
			_ = p.link.Detach() // somebody may have pinned it elsewhere; before Linux 5.9 closing it is all there is
		}
	}
	if w.pins != nil {
		errs = append(errs, w.pins.empty())
	}
	return errors.Join(append(errs, w.Release())...)
}

// Release lets go of everything. What is pinned stays attached.
func (w *Watch) Release() error {
	var errs []error
	for _, p := range w.order {
		if p.link != nil {
			errs = append(errs, p.link.Close())
		}
	}
	if w.dir != nil {
		errs = append(errs, w.dir.Close())
	}
	w.order, w.dir = nil, nil
	return errors.Join(errs...)
}
