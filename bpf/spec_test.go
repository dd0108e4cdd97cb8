package bpf_test

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

// mover is a small object.
func mover(t testing.TB) []byte {
	t.Helper()
	obj, err := os.ReadFile("bind/mover_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestSpecOfASmallObject(t *testing.T) {
	s, err := bpf.ReadSpec(mover(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range s.Programs {
		names = append(names, p.Name+" "+p.Type+" "+p.AttachType)
	}
	want := []string{
		"bind4 CGroupSockAddr CGroupInet4Bind", "bind6 CGroupSockAddr CGroupInet6Bind", "forget CGroupSock CgroupInetSockRelease",
		"no_mptcp CGroupSock CGroupInetSockCreate", "post_bind4 CGroupSock CGroupInet4PostBind", "post_bind6 CGroupSock CGroupInet6PostBind",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	maps := []bpf.Map{{"moved", "Hash", 4, 16, 1024}, {"requested", "LRUHash", 8, 4, 1024}}
	if diff := cmp.Diff(maps, s.Maps); diff != "" {
		t.Error(diff)
	}
	helpers := []string{"FnGetSocketCookie", "FnMapDeleteElem", "FnMapLookupElem"}
	if diff := cmp.Diff(helpers, s.Programs[2].Helpers); diff != "" {
		t.Error(diff)
	}
	if s.License != "GPL" || s.ByteOrder != "LittleEndian" || s.MinKernel != "5.10" || !strings.HasPrefix(s.Clang, "19.") || s.Programs[3].Instructions == 0 {
		t.Errorf("%+v", s)
	}
}

func TestSpecIsTheSameEveryTime(t *testing.T) {
	var first []byte
	for range 5 {
		s, err := bpf.ReadSpec(probe.Object())
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = text
		}
		if !bytes.Equal(first, text) {
			t.Fatalf("%s\n%s", first, text)
		}
	}
}

// with is an object with one byte changed.
func with(obj []byte, at int, b byte) []byte {
	changed := slices.Clone(obj)
	changed[at] = b
	return changed
}

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	obj := mover(t)
	const machine = 18
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{
		"empty":                             nil,
		"no ELF":                            []byte("#!/bin/sh\n"),
		"an ELF for another CPU":            with(obj, machine, byte(elf.EM_AARCH64)),
		"a Go program":                      self,
		"the wrong byte order":              with(obj, elf.EI_DATA, byte(elf.ELFDATA2MSB)),
		"of 32 bits":                        with(obj, elf.EI_CLASS, byte(elf.ELFCLASS32)),
		"of no known class":                 with(obj, elf.EI_CLASS, 9),
		"of another ELF version":            with(obj, elf.EI_VERSION, 2),
		"too large":                         make([]byte, 16<<20+1),
		"too large with an object in front": append(slices.Clone(obj), make([]byte, 16<<20)...),
		"the header only":                   obj[:64],
		"the first half":                    obj[:len(obj)/2],
		"without its last byte":             obj[:len(obj)-1],
	} {
		var format *bpf.FormatError
		if s, err := bpf.ReadSpec(in); !errors.As(err, &format) || s != nil || format.Hint() == "" {
			t.Errorf("%s: %v, want a FormatError", name, err)
		}
		if _, err := bpf.Open(in, bpf.DigestOf(in)); !errors.As(err, &format) {
			t.Errorf("%s: Open says %v, want a FormatError", name, err)
		}
	}
}

func TestEveryTruncatedObjectIsRefused(t *testing.T) {
	for name, obj := range map[string][]byte{"mover": mover(t), "probe": probe.Object()} {
		step := 1 + len(obj)/500
		for n := 0; n < len(obj); n += step {
			var format *bpf.FormatError
			if _, err := bpf.Open(obj[:n], bpf.DigestOf(obj[:n])); !errors.As(err, &format) {
				t.Fatalf("%s, first %d bytes of %d: %v, want a FormatError", name, n, len(obj), err)
			}
		}
	}
}

func TestEveryFlippedBitChangesTheDigest(t *testing.T) {
	obj := mover(t)
	want := bpf.DigestOf(obj)
	for i := range obj {
		for bit := range 8 {
			obj[i] ^= 1 << bit
			_, err := bpf.Open(obj, want)
			obj[i] ^= 1 << bit
			var digest *bpf.DigestError
			if !errors.As(err, &digest) {
				t.Fatalf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	if _, err := bpf.Open(obj, want); err != nil {
		t.Error(err)
	}
}

func TestFlippedBitsNeverPanic(t *testing.T) {
	obj := mover(t)
	for i := range obj {
		obj[i] ^= 1 << (i % 8)
		_, _ = bpf.ReadSpec(obj)
		obj[i] ^= 1 << (i % 8)
	}
}

func FuzzReadSpec(f *testing.F) {
	f.Add(mover(f))
	f.Add(mover(f)[:300])
	f.Add(with(mover(f), elf.EI_DATA, byte(elf.ELFDATA2MSB)))
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, obj []byte) {
		s, err := bpf.ReadSpec(obj)
		var format *bpf.FormatError
		if _, opened := bpf.Open(obj, bpf.DigestOf(obj)); err == nil && opened != nil {
			t.Errorf("it has a Spec but cannot be opened: %v", opened)
		}
		if err != nil {
			if !errors.As(err, &format) {
				t.Errorf("%v is no FormatError", err)
			}
			return
		}
		if s.Digest != bpf.DigestOf(obj) || len(s.Programs) == 0 {
			t.Errorf("%+v", s)
		}
		_ = s.Check(bpf.DefaultRules())
	})
}
