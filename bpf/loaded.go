package bpf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

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

// describeProgram records what the kernel says of a program. It returns the ids
// of the maps it uses as well.
func describeProgram(name string, prog *ebpf.Program, given asm.Instructions) (LoadedProgram, []uint32, error) {
	p := LoadedProgram{Name: name}
	var err error
	if p.LoadedDigest, err = givenDigest(given); err != nil {
		return p, nil, fmt.Errorf("encoding program %s: %w", name, err)
	}
	info, err := prog.Info()
	if err != nil {
		return p, nil, fmt.Errorf("reading program %s: %w", name, err)
	}
	id, _ := info.ID()
	p.ID, p.Tag = uint32(id), info.Tag
	if p.XlatedDigest, err = xlatedDigest(prog.FD()); err != nil {
		return p, nil, fmt.Errorf("reading the instructions of program %s: %w", name, err)
	}
	maps, err := programMaps(prog.FD())
	if err != nil {
		return p, nil, fmt.Errorf("reading the maps of program %s: %w", name, err)
	}
	return p, maps, nil
}

// describeMap records what the kernel says of a map.
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
	ins := append(asm.Instructions(nil), given...)
	if err := ins.Marshal(io.Discard, order); err != nil { // resolves jumps and calls
		return "", err
	}
	var stream bytes.Buffer
	for _, in := range ins {
		if in.IsLoadFromMap() {
			in.Constant = 0
		}
		if _, err := in.Marshal(&stream, order); err != nil {
			return "", err
		}
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
