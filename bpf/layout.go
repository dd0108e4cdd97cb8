package bpf

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// LayoutError means that an object does not consist of what this version reads:
// another program or map, or other fields in a map.
type LayoutError struct{ What, Want, Got string }

func (e *LayoutError) Error() string {
	return fmt.Sprintf("not an object for this version of sluice: %s is %s, expected %s", e.What, e.Got, e.Want)
}

// Hint says what to do about it.
func (e *LayoutError) Hint() string {
	return "take the object and the programs of one release: this one was compiled from another source"
}

const missing = "missing"

// SameLayout compares programs, variables and declared maps, and of these every
// field of keys and values. The error is a *LayoutError.
func SameLayout(want, got *ebpf.CollectionSpec) error {
	if err := sameNames("program", want.Programs, got.Programs); err != nil {
		return err
	}
	for name, w := range want.Programs {
		g := got.Programs[name]
		if w.Type != g.Type || w.AttachType != g.AttachType {
			return &LayoutError{"program " + name, fmt.Sprint(w.Type, " ", w.AttachType), fmt.Sprint(g.Type, " ", g.AttachType)}
		}
	}
	for name, w := range want.Variables {
		g := got.Variables[name]
		if g == nil {
			return &LayoutError{"variable " + name, "there", missing}
		}
		if w.Size() != g.Size() {
			return &LayoutError{"variable " + name, fmt.Sprint(w.Size(), " bytes"), fmt.Sprint(g.Size(), " bytes")}
		}
	}
	wantMaps, gotMaps := declared(want.Maps), declared(got.Maps)
	if err := sameNames("map", wantMaps, gotMaps); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(wantMaps)) {
		if err := sameMap(wantMaps[name], gotMaps[name]); err != nil {
			return err
		}
	}
	return nil
}

func declared(all map[string]*ebpf.MapSpec) map[string]*ebpf.MapSpec {
	list := maps.Clone(all)
	maps.DeleteFunc(list, func(name string, _ *ebpf.MapSpec) bool { return IsData(name) })
	return list
}

func sameNames[T any](kind string, want, got map[string]T) error {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, ok := got[name]; !ok {
			return &LayoutError{kind + " " + name, "there", missing}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			return &LayoutError{kind + " " + name, missing, "there"}
		}
	}
	return nil
}

func sameMap(want, got *ebpf.MapSpec) error {
	shape := func(m *ebpf.MapSpec) string {
		return fmt.Sprintf("%v of %d entries with keys of %d and values of %d bytes, flags %#x", m.Type, m.MaxEntries, m.KeySize, m.ValueSize, m.Flags)
	}
	what := "map " + want.Name
	if shape(want) != shape(got) {
		return &LayoutError{what, shape(want), shape(got)}
	}
	if err := sameType("key of "+what, want.Key, got.Key); err != nil {
		return err
	}
	return sameType("value of "+what, want.Value, got.Value)
}

// sameType compares two types by what a reader of their bytes relies on: sizes,
// encodings, and names and places of fields. Names of types do not count.
func sameType(what string, want, got btf.Type) error {
	want, got = btf.UnderlyingType(want), btf.UnderlyingType(got)
	if kindOf(want) != kindOf(got) {
		return &LayoutError{what, kindOf(want), kindOf(got)}
	}
	switch w := want.(type) {
	case *btf.Struct:
		return sameFields(what, w.Members, got.(*btf.Struct).Members)
	case *btf.Union:
		return sameFields(what, w.Members, got.(*btf.Union).Members)
	case *btf.Array:
		return sameType("element of "+what, w.Type, got.(*btf.Array).Type)
	}
	return nil
}

func sameFields(of string, want, got []btf.Member) error {
	for i, w := range want {
		g := got[i]
		what := fmt.Sprintf("field %d of %s", i+1, of)
		place := func(m btf.Member) string {
			if m.BitfieldSize > 0 {
				return fmt.Sprintf("%q at bit %d, %d bits", m.Name, m.Offset, m.BitfieldSize)
			}
			return fmt.Sprintf("%q at byte %d", m.Name, m.Offset.Bytes())
		}
		if place(w) != place(g) {
			return &LayoutError{what, place(w), place(g)}
		}
		if err := sameType(fmt.Sprintf("field %s of %s", w.Name, of), w.Type, g.Type); err != nil {
			return err
		}
	}
	return nil
}

// kindOf says what a type is, but for the types inside it. What is behind a
// pointer is not in the map.
func kindOf(t btf.Type) string {
	switch t := t.(type) {
	case nil:
		return "of unknown type"
	case *btf.Int:
		return fmt.Sprintf("%v of %d bytes", t.Encoding, t.Size)
	case *btf.Enum:
		return fmt.Sprintf("enum of %d bytes with %v", t.Size, t.Values)
	case *btf.Float:
		return fmt.Sprintf("float of %d bytes", t.Size)
	case *btf.Array:
		return fmt.Sprintf("array of %d", t.Nelems)
	case *btf.Struct:
		return fmt.Sprintf("struct of %d bytes and %d fields", t.Size, len(t.Members))
	case *btf.Union:
		return fmt.Sprintf("union of %d bytes and %d fields", t.Size, len(t.Members))
	}
	return fmt.Sprintf("%T", t)
}
