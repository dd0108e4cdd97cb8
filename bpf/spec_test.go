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

func TestWhatIsNoObjectIsRefused(t *testing.T) {
	obj := mover(t)
	big := slices.Clone(obj)
	big[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	arm := slices.Clone(obj)
	arm[18], arm[19] = byte(elf.EM_AARCH64), 0
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{
		"empty":                  nil,
		"no ELF":                 []byte("#!/bin/sh\n"),
		"an ELF for another CPU": arm,
		"a Go program":           self,
		"the wrong byte order":   big,
		"too large":              make([]byte, 17<<20),
		"the header only":        obj[:64],
		"the first half":         obj[:len(obj)/2],
		"without its last byte":  obj[:len(obj)-1],
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
	f.Add(probe.Object())
	f.Fuzz(func(t *testing.T, obj []byte) {
		s, err := bpf.ReadSpec(obj)
		var format *bpf.FormatError
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
