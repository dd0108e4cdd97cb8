// Package bpf describes compiled eBPF objects and watches over what the kernel
// made of them.
//
// A [Spec] is what an object says of itself: the same bytes give the same Spec,
// on any machine, without privileges. A [Loaded] is what this kernel made of it:
// program ids, tags, digests, links. The two are kept apart because only the
// first can be signed and only the second can be attacked afterwards; [Watch]
// compares the second with itself over time.
//
// On the way from one to the other a [Staged] is what the kernel has verified
// and nothing runs yet: putting it in the place of what runs is then a matter of
// microseconds. [Pins] keep maps and links when the process ends.
//
// The folders below hold one program each: the probe that measures, the
// splitter that moves traffic, and the binder that lets two versions share
// their ports.
package bpf

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Digest is "sha256:" and 64 lower-case hexadecimal digits.
type Digest string

// DigestOf returns the digest of data.
func DigestOf(data []byte) Digest {
	sum := sha256.Sum256(data)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// maxObject and maxNote bound what is read: larger ones are not ours.
const (
	maxObject = 16 << 20
	maxNote   = 256
)

// Spec is what a compiled object says of itself.
type Spec struct {
	Digest    Digest    `json:"digest"`               // of the whole ELF file
	BTFDigest Digest    `json:"btf_digest,omitempty"` // of its .BTF section
	License   string    `json:"license"`
	ByteOrder string    `json:"byte_order"`
	Clang     string    `json:"clang,omitempty"`      // version of the compiler, where the object says it
	MinKernel string    `json:"min_kernel,omitempty"` // oldest Linux it is meant for, where it says so
	Programs  []Program `json:"programs"`             // by name
	Maps      []Map     `json:"maps"`                 // by name
}

// Program is one program of an object.
type Program struct {
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	AttachType   string   `json:"attach_type"`
	Instructions int      `json:"instructions"`
	Helpers      []string `json:"helpers"` // kernel functions that it calls, by name
}

// Map is one map of an object.
type Map struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	KeySize    uint32 `json:"key_size"`
	ValueSize  uint32 `json:"value_size"`
	MaxEntries uint32 `json:"max_entries"`
}

// FormatError means that something is no eBPF object for this machine.
type FormatError struct {
	Why string
	Err error // may be nil
}

func (e *FormatError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("not a usable eBPF object: %s: %v", e.Why, e.Err)
	}
	return "not a usable eBPF object: " + e.Why
}

func (e *FormatError) Unwrap() error { return e.Err }

// Hint says what a usable one is.
func (e *FormatError) Hint() string {
	return "compile it with clang -target bpfel -g -O2, for example with bpf2go"
}

// ReadSpec describes an object. Nothing reaches the kernel. What is truncated,
// foreign or of the wrong byte order is a *FormatError.
func ReadSpec(obj []byte) (*Spec, error) {
	coll, err := collection(obj)
	if err != nil {
		return nil, err
	}
	s := &Spec{Digest: DigestOf(obj), ByteOrder: coll.ByteOrder.String()}
	if err := s.readELF(obj); err != nil {
		return nil, err
	}
	for name, p := range coll.Programs {
		s.License = cmp.Or(s.License, p.License)
		s.Programs = append(s.Programs, Program{
			Name: name, Type: p.Type.String(), AttachType: p.AttachType.String(),
			Instructions: len(p.Instructions), Helpers: helpers(p.Instructions),
		})
	}
	for name, m := range coll.Maps {
		s.Maps = append(s.Maps, Map{
			Name: name, Type: m.Type.String(), KeySize: m.KeySize, ValueSize: m.ValueSize, MaxEntries: m.MaxEntries,
		})
	}
	slices.SortFunc(s.Programs, func(a, b Program) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Maps, func(a, b Map) int { return strings.Compare(a.Name, b.Name) })
	return s, nil
}

// collection parses an object for loading.
func collection(obj []byte) (*ebpf.CollectionSpec, error) {
	if len(obj) > maxObject {
		return nil, &FormatError{Why: fmt.Sprintf("it has %d bytes, more than %d", len(obj), maxObject)}
	}
	coll, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(obj))
	if err != nil {
		return nil, &FormatError{Why: "it cannot be parsed", Err: err}
	}
	if len(coll.Programs) == 0 {
		return nil, &FormatError{Why: "it has no program"}
	}
	if coll.ByteOrder.String() != nativeOrder() {
		return nil, &FormatError{Why: fmt.Sprintf("its byte order is %v, this machine's is %s", coll.ByteOrder, nativeOrder())}
	}
	return coll, nil
}

// readELF takes what cilium/ebpf does not tell: the BTF section and the compiler.
func (s *Spec) readELF(obj []byte) error {
	f, err := elf.NewFile(bytes.NewReader(obj))
	if err != nil {
		return &FormatError{Why: "it is no ELF file", Err: err}
	}
	defer f.Close()
	if btf := f.Section(".BTF"); btf != nil {
		raw, err := btf.Data()
		if err != nil {
			return &FormatError{Why: "its BTF cannot be read", Err: err}
		}
		s.BTFDigest = DigestOf(raw)
	}
	s.Clang, s.MinKernel = note(f, "toolchain"), note(f, "min_kernel")
	return nil
}

// note reads a section that holds one string (bpf/include/sluice.h); empty if
// there is none.
func note(f *elf.File, section string) string {
	sec := f.Section(section)
	if sec == nil || sec.Size > maxNote {
		return ""
	}
	raw, err := sec.Data()
	if err != nil {
		return ""
	}
	text, _, _ := strings.Cut(string(raw), "\x00")
	return text
}

func helpers(ins asm.Instructions) []string {
	seen := map[string]bool{}
	for _, in := range ins {
		switch {
		case in.IsBuiltinCall():
			seen[asm.BuiltinFunc(in.Constant).String()] = true
		case in.IsKfuncCall():
			seen["kernel function "+in.Reference()] = true
		}
	}
	list := make([]string, 0, len(seen))
	for name := range seen {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
