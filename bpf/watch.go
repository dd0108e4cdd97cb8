package bpf

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Loaded is what this kernel made of an object.
type Loaded struct {
	Digest   Digest          `json:"digest"` // of the object it was loaded from
	Programs []LoadedProgram `json:"programs"`
}

// LoadedProgram is one program as the kernel has it.
type LoadedProgram struct {
	Name         string `json:"name"`
	ID           uint32 `json:"id"`
	Tag          string `json:"tag"` // the kernel's own digest of the instructions
	XlatedDigest Digest `json:"xlated_digest,omitempty"`
	LinkID       uint32 `json:"link_id"`
	AttachedTo   string `json:"attached_to"`
}

// MismatchError means that what is loaded is not what was loaded and verified.
type MismatchError struct {
	Program, What, Want, Got string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("program %s: %s is %s, expected %s", e.Program, e.What, e.Got, e.Want)
}

// Watch attaches programs to a control group and can tell, at any time, whether
// exactly they are still there.
type Watch struct {
	dir   *os.File
	order []*watched
}

type watched struct {
	LoadedProgram
	attach  ebpf.AttachType
	link    link.Link
	program *ebpf.Program // of the collection, which keeps its id from being used again
}

// Attach attaches the named programs of a collection to a control group, all or
// nothing. Close detaches them.
func Attach(dir string, coll *ebpf.Collection, programs map[string]ebpf.AttachType) (_ *Watch, err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening control group: %w", err)
	}
	w := &Watch{dir: f}
	defer func() {
		if err != nil {
			_ = w.Close()
		}
	}()
	names := make([]string, 0, len(programs))
	for name := range programs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		prog := coll.Programs[name]
		l, err := link.AttachCgroup(link.CgroupOptions{Path: dir, Attach: programs[name], Program: prog})
		if err != nil {
			return nil, fmt.Errorf("attaching program %s to %s: %w", name, dir, err)
		}
		p := &watched{attach: programs[name], link: l, program: prog}
		w.order = append(w.order, p)
		if p.LoadedProgram, err = describe(name, dir, prog, l); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// describe records what the kernel says of a program and its link.
func describe(name, dir string, prog *ebpf.Program, l link.Link) (LoadedProgram, error) {
	p := LoadedProgram{Name: name, AttachedTo: dir}
	linkInfo, err := l.Info()
	if err != nil {
		return p, fmt.Errorf("reading the link of program %s: %w", name, err)
	}
	info, err := prog.Info()
	if err != nil {
		return p, fmt.Errorf("reading program %s: %w", name, err)
	}
	id, _ := info.ID()
	p.ID, p.Tag, p.LinkID = uint32(id), info.Tag, uint32(linkInfo.ID)
	p.XlatedDigest = xlated(info)
	return p, nil
}

// xlated is the digest of the instructions as the kernel translated them; empty
// where the kernel does not show them.
func xlated(info *ebpf.ProgramInfo) Digest {
	ins, err := info.Instructions()
	if err != nil || len(ins) == 0 {
		return ""
	}
	return DigestOf(fmt.Append(nil, ins))
}

// Programs returns what was loaded, by name.
func (w *Watch) Programs() []LoadedProgram {
	list := make([]LoadedProgram, len(w.order))
	for i, p := range w.order {
		list[i] = p.LoadedProgram
	}
	return list
}

// Check asks the kernel whether every program is still attached where it was,
// is still the same, and runs alone: a program in front of it could hide
// packets from it. The error is a *MismatchError, or says that the kernel could
// not be asked.
func (w *Watch) Check() error {
	for _, p := range w.order {
		if err := p.check(); err != nil {
			return err
		}
		if err := w.alone(p); err != nil {
			return err
		}
	}
	return nil
}

func (p *watched) check() error {
	info, err := p.link.Info()
	if err != nil {
		return fmt.Errorf("reading the link of program %s: %w", p.Name, err)
	}
	if cg := info.Cgroup(); cg == nil || cg.CgroupId == 0 {
		return &MismatchError{Program: p.Name, What: "link", Want: "attached to " + p.AttachedTo, Got: "detached"}
	}
	if uint32(info.Program) == p.ID {
		return nil // an id is not used again while we hold the program
	}
	found, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return &MismatchError{Program: p.Name, What: "program in the kernel", Want: fmt.Sprint("id ", p.ID), Got: fmt.Sprint("id ", info.Program)}
	}
	defer found.Close()
	foundInfo, err := found.Info()
	if err != nil {
		return fmt.Errorf("reading program %d: %w", info.Program, err)
	}
	return &MismatchError{
		Program: p.Name, What: "program in the kernel",
		Want: fmt.Sprintf("id %d, tag %s", p.ID, p.Tag), Got: fmt.Sprintf("id %d, tag %s", info.Program, foundInfo.Tag),
	}
}

// alone checks that nothing but the program is attached to the group itself
// with its attach type.
func (w *Watch) alone(p *watched) error {
	got, err := link.QueryPrograms(link.QueryOptions{Target: int(w.dir.Fd()), Attach: p.attach})
	if err != nil {
		return fmt.Errorf("asking what is attached to %s: %w", p.AttachedTo, err)
	}
	var ids []string
	only := len(got.Programs) == 1
	for _, a := range got.Programs {
		ids = append(ids, fmt.Sprint(a.ID))
		only = only && uint32(a.ID) == p.ID
	}
	if only {
		return nil
	}
	return &MismatchError{Program: p.Name, What: "list of attached programs", Want: fmt.Sprintf("[%d]", p.ID), Got: fmt.Sprint(ids)}
}

// Replace puts the programs of another collection in the place of those that
// are attached, each in one step: no packet is missed. What somebody else has
// replaced or detached is put right by it. After an error the old programs are
// in their places, as far as the kernel lets them.
func (w *Watch) Replace(coll *ebpf.Collection) error {
	for i, p := range w.order {
		err := p.put(coll.Programs[p.Name])
		if err == nil {
			continue
		}
		for _, done := range w.order[:i+1] {
			err = errors.Join(err, done.put(done.program))
		}
		return err
	}
	for _, p := range w.order {
		p.program = coll.Programs[p.Name]
	}
	return nil
}

// put makes the link run a program; a link that was detached is made anew.
func (p *watched) put(prog *ebpf.Program) error {
	err := p.link.Update(prog)
	if errors.Is(err, unix.ENOLINK) {
		var l link.Link
		if l, err = link.AttachCgroup(link.CgroupOptions{Path: p.AttachedTo, Attach: p.attach, Program: prog}); err == nil {
			_ = p.link.Close()
			p.link = l
		}
	}
	if err != nil {
		return fmt.Errorf("replacing program %s: %w", p.Name, err)
	}
	p.LoadedProgram, err = describe(p.Name, p.AttachedTo, prog, p.link)
	return err
}

// Close detaches everything.
func (w *Watch) Close() error {
	var errs []error
	for _, p := range w.order {
		errs = append(errs, p.link.Close())
	}
	w.order = nil
	return errors.Join(append(errs, w.dir.Close())...)
}
