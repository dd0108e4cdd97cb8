package bpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
)

// StaleError means that what is pinned is not what this version would have
// pinned: a start that was cut short, another version, or something foreign.
type StaleError struct {
	What string // "the traffic splitter"
	Dir  string
	Why  string
	Err  error // may be nil
}

func (e *StaleError) Error() string {
	return fmt.Sprintf("%s pinned at %s cannot be taken over: %s", e.What, e.Dir, e.Why)
}

func (e *StaleError) Unwrap() error { return e.Err }

// TakeOver opens the maps that are pinned and notes the links, which [Attach]
// will give new programs. It returns none if nothing is pinned. What is not
// complete, of another layout than the object, or not of one probe is a
// *StaleError; it stays until Attach or Close.
func (p *Pins) TakeOver(spec *ebpf.CollectionSpec, programs map[string]ebpf.AttachType) (_ map[string]*ebpf.Map, err error) {
	names, err := p.names()
	if err != nil || len(names) == 0 {
		return nil, err
	}
	all := map[string]*ebpf.Map{}
	defer func() {
		if err == nil {
			return
		}
		p.forget()
		clear(p.files)
		for _, m := range all {
			_ = m.Close()
		}
		err = staleProbe(p.dir, err)
	}()
	want := declared(spec.Maps)
	if err := complete(names, want, programs); err != nil {
		return nil, err
	}
	for name, m := range want {
		if all[name], err = p.openMap(name, m); err != nil {
			return nil, err
		}
	}
	uses, err := p.openLinks(programs)
	if err != nil {
		return nil, err
	}
	return all, usesAll(spec, all, uses)
}

func staleProbe(dir string, err error) *StaleError {
	stale := &StaleError{What: "the probe", Dir: dir, Why: err.Error(), Err: err}
	var layout *LayoutError
	if errors.As(err, &layout) {
		stale.Why = fmt.Sprintf("%s is %s, expected %s", layout.What, layout.Got, layout.Want)
	}
	return stale
}

// complete compares the names of pins with those of an object.
func complete(got []string, maps map[string]*ebpf.MapSpec, programs map[string]ebpf.AttachType) error {
	want := map[string]bool{}
	for name := range maps {
		want[pinnedMap+name] = true
	}
	for name := range programs {
		want[pinnedLink+name] = true
	}
	there := map[string]bool{}
	for _, name := range got {
		there[name] = true
	}
	return sameNames("pin", want, there)
}

// openMap opens a pinned map that has the layout of spec and can be written to.
func (p *Pins) openMap(name string, spec *ebpf.MapSpec) (*ebpf.Map, error) {
	m, err := ebpf.LoadPinnedMap(p.path(pinnedMap+name), nil)
	if err != nil {
		return nil, fmt.Errorf("opening map %s: %w", name, err)
	}
	err = p.remember(pinnedMap + name)
	if err == nil {
		err = sameLive(name, spec, m)
	}
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// sameLive compares a map in the kernel with a description of it.
func sameLive(name string, want *ebpf.MapSpec, m *ebpf.Map) error {
	if err := want.Compatible(m); err != nil {
		return fmt.Errorf("map %s: %w", name, err)
	}
	if frozen, err := frozen(m); err != nil || frozen {
		return errors.Join(fmt.Errorf("map %s is frozen", name), err)
	}
	key, value, err := liveTypes(m)
	if err != nil {
		return fmt.Errorf("reading the types of map %s: %w", name, err)
	}
	if err := sameLiveType("key of map "+name, want.Key, key); err != nil {
		return err
	}
	return sameLiveType("value of map "+name, want.Value, value)
}

// sameLiveType is sameType, but some kinds of map have no types in the kernel:
// there a plain number is known by its size alone.
func sameLiveType(what string, want, got btf.Type) error {
	switch btf.UnderlyingType(want).(type) {
	case nil:
		return nil
	case *btf.Int, *btf.Enum:
		if got == nil {
			return nil
		}
	}
	return sameType(what, want, got)
}

// liveTypes reads what the kernel knows of a map's keys and values; nil is
// nothing.
func liveTypes(m *ebpf.Map) (key, value btf.Type, err error) {
	var in mapInfo
	if err := info(m.FD(), &in); err != nil || in.BTF == 0 {
		return nil, nil, err
	}
	handle, err := btf.NewHandleFromID(btf.ID(in.BTF))
	if err != nil {
		return nil, nil, err
	}
	defer handle.Close()
	types, err := handle.Spec(nil)
	if err != nil {
		return nil, nil, err
	}
	if in.KeyType > 0 {
		if key, err = types.TypeByID(btf.TypeID(in.KeyType)); err != nil {
			return nil, nil, err
		}
	}
	if in.ValueType > 0 {
		value, err = types.TypeByID(btf.TypeID(in.ValueType))
	}
	return key, value, err
}

// openLinks opens the pinned links, all of one control group, and returns the
// ids of the maps that each of their programs uses.
func (p *Pins) openLinks(programs map[string]ebpf.AttachType) (map[string][]uint32, error) {
	p.links, p.group = map[string]link.Link{}, 0
	uses := map[string][]uint32{}
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		l, err := link.LoadPinnedLink(p.path(pinnedLink+name), nil)
		if err != nil {
			return nil, fmt.Errorf("opening the link of program %s: %w", name, err)
		}
		p.links[name] = l
		info, err := l.Info()
		if err != nil {
			return nil, fmt.Errorf("reading the link of program %s: %w", name, err)
		}
		cg := info.Cgroup()
		switch {
		case cg == nil || ebpf.AttachType(cg.AttachType) != programs[name]:
			return nil, fmt.Errorf("the link of program %s is another kind of link", name)
		case cg.CgroupId == 0:
			return nil, fmt.Errorf("the link of program %s is detached", name)
		case p.group != 0 && p.group != cg.CgroupId:
			return nil, fmt.Errorf("the links are of control groups %d and %d", p.group, cg.CgroupId)
		}
		p.group = cg.CgroupId
		if uses[name], err = mapsOf(info.Program); err != nil {
			return nil, fmt.Errorf("reading the program in the link of program %s: %w", name, err)
		}
		if err := p.remember(pinnedLink + name); err != nil {
			return nil, err
		}
	}
	return uses, nil
}

func mapsOf(program ebpf.ProgramID) ([]uint32, error) {
	prog, err := ebpf.NewProgramFromID(program)
	if err != nil {
		return nil, err
	}
	defer prog.Close()
	return programMaps(prog.FD())
}

// usesAll makes sure that the programs in the links count in the pinned maps:
// each program in one of them at least, and each map that the object's own
// programs use by one at least.
func usesAll(spec *ebpf.CollectionSpec, all map[string]*ebpf.Map, uses map[string][]uint32) error {
	ids := map[uint32]string{}
	for name, m := range all {
		var in mapInfo
		if err := info(m.FD(), &in); err != nil {
			return fmt.Errorf("reading map %s: %w", name, err)
		}
		ids[in.ID] = name
	}
	used := map[string]bool{}
	for program, list := range uses {
		counts := false
		for _, id := range list {
			if name, ok := ids[id]; ok {
				used[name], counts = true, true
			}
		}
		if !counts {
			return fmt.Errorf("the link of program %s runs a program that uses no pinned map", program)
		}
	}
	for _, p := range spec.Programs {
		for _, in := range p.Instructions {
			name := in.Reference()
			if _, ok := all[name]; ok && in.IsLoadFromMap() && !used[name] {
				return fmt.Errorf("no program that runs uses map %s", name)
			}
		}
	}
	return nil
}

// Of reports whether the links that were taken over are of a control group.
func (p *Pins) Of(dir string) (bool, error) {
	f, id, err := openGroup(dir)
	if err != nil {
		return false, err
	}
	return len(p.links) == 0 || id == p.group, f.Close()
}

// Discard gives up what was taken over; it is removed by the next Attach.
func (p *Pins) Discard() {
	p.forget()
	clear(p.files)
}
