package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Loaded is what this kernel made of an object.
type Loaded struct {
	Digest   Digest          `json:"digest"`   // of the object it was loaded from
	Programs []LoadedProgram `json:"programs"` // by name
	Maps     []LoadedMap     `json:"maps"`     // by name
}

// LoadedProgram is one program as the kernel has it.
type LoadedProgram struct {
	Name string `json:"name"`
	ID   uint32 `json:"id"`
	Tag  string `json:"tag"` // the kernel's own digest of the instructions

	// LoadedDigest is of the instructions that were given to the kernel, with
	// the file descriptors of maps as zero: the same object has the same one.
	LoadedDigest Digest `json:"loaded_digest"`
	// XlatedDigest is of the instructions as the kernel translated them, with
	// the targets of calls as zero. It holds the ids of maps, so it is of this
	// load only. Empty: the kernel does not show them.
	XlatedDigest Digest `json:"xlated_digest,omitempty"`

	LinkID     uint32 `json:"link_id"`
	AttachType string `json:"attach_type"`
	AttachedTo string `json:"attached_to"` // folder of the control group
}

// LoadedMap is one map as the kernel has it.
type LoadedMap struct {
	Name       string `json:"name"`
	ID         uint32 `json:"id"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_size"`
	ValueSize  uint32 `json:"value_size"`
	MaxEntries uint32 `json:"max_entries"`
	Frozen     bool   `json:"frozen"` // user space cannot write to it
}

// describeProgram records what the kernel says of a program, and the ids of the
// maps it uses.
func describeProgram(name string, prog *ebpf.Program, given asm.Instructions) (p LoadedProgram, uses []uint32, err error) {
	p.Name = name
	info, err := prog.Info()
	if err != nil {
		return p, nil, err
	}
	id, _ := info.ID()
	p.ID, p.Tag = uint32(id), info.Tag
	if p.LoadedDigest, err = givenDigest(given); err != nil {
		return p, nil, err
	}
	if p.XlatedDigest, err = xlatedDigest(prog.FD()); err != nil {
		return p, nil, err
	}
	uses, err = programMaps(prog.FD())
	return p, uses, err
}

// describeMaps records what the kernel says of maps, by name.
func describeMaps(all map[string]*ebpf.Map) ([]LoadedMap, error) {
	list := make([]LoadedMap, 0, len(all))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m, err := describeMap(name, all[name])
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

func describeMap(name string, m *ebpf.Map) (LoadedMap, error) {
	info, err := m.Info()
	if err != nil {
		return LoadedMap{Name: name}, fmt.Errorf("reading map %s: %w", name, err)
	}
	id, _ := info.ID()
	return LoadedMap{
		Name: name, ID: uint32(id), Type: info.Type.String(),
		KeySize: info.KeySize, ValueSize: info.ValueSize, MaxEntries: info.MaxEntries, Frozen: info.Frozen(),
	}, nil
}

// givenDigest is that of instructions as they are given to the kernel. What
// differs from load to load is masked as the kernel does it for its tag.
func givenDigest(given asm.Instructions) (Digest, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if nativeOrder() != order.String() {
		order = binary.BigEndian
	}
	masked := slices.Clone(given)
	for i := range masked {
		if masked[i].IsLoadFromMap() {
			masked[i].Constant = 0
		}
	}
	var stream bytes.Buffer
	if err := masked.Marshal(&stream, order); err != nil {
		return "", err
	}
	return DigestOf(stream.Bytes()), nil
}

// xlatedDigest is that of the instructions that the kernel translated a program
// to. The kernel shows where helpers lie only to some readers, and which ones
// can change while it runs: so calls count without their target.
func xlatedDigest(program int) (Digest, error) {
	code, err := programCode(program)
	if err != nil || len(code) == 0 {
		return "", err
	}
	const call = byte(asm.JumpClass) | byte(asm.Call) // opcode; the target is the last 4 of 8 bytes
	for i := 0; i+asm.InstructionSize <= len(code); i += asm.InstructionSize {
		if code[i] == call {
			clear(code[i+4 : i+8])
		}
	}
	return DigestOf(code), nil
}
