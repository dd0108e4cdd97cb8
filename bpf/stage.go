package bpf

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Staged is an object whose programs the kernel has verified and that nothing
// runs yet.
type Staged struct {
	Programs map[string]*ebpf.Program
	Maps     map[string]*ebpf.Map // all that the programs use

	own      []*ebpf.Map // of these, those that were made for these programs only
	programs map[string]stagedProgram
	maps     []LoadedMap
}

type stagedProgram struct {
	LoadedProgram
	maps []uint32
}

// IsData reports whether a map is a section of the object's data, like its
// constants, and not one that was declared. It belongs to one load.
func IsData(mapName string) bool { return strings.HasPrefix(mapName, ".") }

// NewMaps makes the declared maps of an object, all or nothing. The error is a
// *LoadError.
func NewMaps(spec *ebpf.CollectionSpec) (map[string]*ebpf.Map, error) {
	declared := &ebpf.CollectionSpec{Maps: maps.Clone(spec.Maps), ByteOrder: spec.ByteOrder}
	maps.DeleteFunc(declared.Maps, func(name string, _ *ebpf.MapSpec) bool { return IsData(name) })
	coll, err := Load(declared, ebpf.CollectionOptions{})
	if err != nil {
		return nil, err
	}
	return coll.Maps, nil
}

// Stage gives an object's programs to the kernel, over maps that exist already:
// all declared ones of the object must be there, and none of them may hold maps
// or programs. They stay the caller's. The error is a *LoadError.
func Stage(spec *ebpf.CollectionSpec, declared map[string]*ebpf.Map) (_ *Staged, err error) {
	s := &Staged{
		Programs: map[string]*ebpf.Program{}, Maps: map[string]*ebpf.Map{}, programs: map[string]stagedProgram{},
	}
	maps.Copy(s.Maps, declared)
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if err := s.loadData(spec); err != nil {
		return nil, err
	}
	if err := s.verify(spec); err != nil {
		return nil, err
	}
	return s, nil
}

// loadData makes the maps of the object's data sections.
func (s *Staged) loadData(spec *ebpf.CollectionSpec) error {
	data := &ebpf.CollectionSpec{Maps: maps.Clone(spec.Maps), Variables: spec.Variables, ByteOrder: spec.ByteOrder}
	maps.DeleteFunc(data.Maps, func(name string, _ *ebpf.MapSpec) bool { return !IsData(name) })
	coll, err := Load(data, ebpf.CollectionOptions{})
	if err != nil {
		return err
	}
	for name, m := range coll.Maps {
		s.Maps[name] = m
		s.own = append(s.own, m)
	}
	return nil
}

// verify loads all programs at the same time: nearly all of the time goes into
// the kernel's verifier, which takes one CPU for each.
func (s *Staged) verify(spec *ebpf.CollectionSpec) error {
	names := slices.Sorted(maps.Keys(spec.Programs))
	progs, described := make([]*ebpf.Program, len(names)), make([]stagedProgram, len(names))
	errs := make([]error, len(names)+1)
	var wait sync.WaitGroup
	for i, name := range names {
		wait.Go(func() {
			progs[i], described[i], errs[i] = loadProgram(name, spec.Programs[name].Copy(), s.Maps)
		})
	}
	wait.Go(func() { s.maps, errs[len(names)] = describeMaps(s.Maps) })
	wait.Wait()
	for i, name := range names {
		if progs[i] != nil {
			s.Programs[name], s.programs[name] = progs[i], described[i]
		}
	}
	if err := errors.Join(errs...); err != nil {
		return loadError(err)
	}
	return nil
}

func loadProgram(name string, spec *ebpf.ProgramSpec, all map[string]*ebpf.Map) (*ebpf.Program, stagedProgram, error) {
	given := slices.Clone(spec.Instructions)
	for mapName, m := range all {
		err := spec.Instructions.AssociateMap(mapName, m)
		if err != nil && !errors.Is(err, asm.ErrUnreferencedSymbol) {
			return nil, stagedProgram{}, fmt.Errorf("program %s: %w", name, err)
		}
	}
	prog, err := ebpf.NewProgram(spec)
	if err != nil {
		return nil, stagedProgram{}, fmt.Errorf("program %s: %w", name, err)
	}
	p, uses, err := describeProgram(name, prog, given)
	if err != nil {
		return prog, stagedProgram{}, fmt.Errorf("reading program %s: %w", name, err)
	}
	return prog, stagedProgram{p, uses}, nil
}

// Describe returns the maps as they were when the programs were staged, by name.
func (s *Staged) Describe() []LoadedMap { return slices.Clone(s.maps) }

// Close frees the programs; what is attached goes on.
func (s *Staged) Close() {
	for _, p := range s.Programs {
		_ = p.Close()
	}
	for _, m := range s.own {
		_ = m.Close()
	}
}
