package bpf

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// passing is an object with one program that lets everything pass.
func passing() *ebpf.CollectionSpec {
	return &ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{"ingress": {
		Name: "ingress", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	}}}
}

func staged(t *testing.T) *Staged {
	t.Helper()
	s, err := Stage(passing(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func attached(t *testing.T) *Watch {
	t.Helper()
	w, err := Attach(testenv.TempCgroup(t), staged(t), map[string]ebpf.AttachType{"ingress": ebpf.AttachCGroupInetIngress}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestTranslatedInstructionsAreReadAgainOnceInAMinute(t *testing.T) {
	w := attached(t)
	if err := w.DeepCheck(); err != nil {
		t.Fatal(err)
	}
	w.order[0].XlatedDigest = DigestOf(nil) // nobody can change a loaded program; we remember another one
	for i := 1; i < deepEvery; i++ {
		if err := w.Check(); err != nil {
			t.Fatalf("check %d: %v", i, err)
		}
	}
	var mismatch *MismatchError
	if err := w.Check(); !errors.As(err, &mismatch) || mismatch.Program != "ingress" || !strings.Contains(mismatch.What, "digest") {
		t.Errorf("check %d says %v, want a MismatchError", deepEvery, err)
	}
	if err := w.Check(); err != nil {
		t.Errorf("the one after that: %v", err)
	}
}

func TestMissingMapsAndProgramsThatTheKernelRefusesLeaveNothing(t *testing.T) {
	testenv.NeedRoot(t)
	for name, change := range map[string]func(*ebpf.CollectionSpec){
		"a map that is not there": func(s *ebpf.CollectionSpec) {
			s.Programs["ingress"].Instructions = asm.Instructions{
				asm.LoadMapPtr(asm.R1, 0).WithReference("counts"), asm.Mov.Imm(asm.R0, 1), asm.Return(),
			}
		},
		"a program that the verifier refuses": func(s *ebpf.CollectionSpec) {
			s.Programs["ingress"].Instructions = asm.Instructions{asm.Mov.Reg(asm.R0, asm.R5), asm.Return()}
		},
		"one good and one bad": func(s *ebpf.CollectionSpec) {
			bad := s.Programs["ingress"].Copy()
			bad.Instructions = asm.Instructions{asm.Return()}
			s.Programs["zz"] = bad
		},
	} {
		spec := passing()
		spec.Maps = map[string]*ebpf.MapSpec{".rodata": {Name: ".rodata", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}}
		change(spec)
		before := openFiles(t)
		s, err := Stage(spec, nil)
		var load *LoadError
		if s != nil || !errors.As(err, &load) {
			t.Errorf("%s: %v, want a LoadError", name, err)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d files are open, %d were", name, after, before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestAFailedReplaceLeavesTheOldPrograms(t *testing.T) {
	w := attached(t)
	before := w.Programs()
	broken := staged(t)
	broken.Close()
	if err := w.Replace(broken); err == nil {
		t.Fatal("closed programs were attached")
	}
	if got := w.Programs(); got[0] != before[0] {
		t.Errorf("%+v, was %+v", got, before)
	}
	if err := w.Check(); err != nil {
		t.Error(err)
	}
	next := staged(t)
	if err := w.Replace(next); err != nil {
		t.Fatal(err)
	}
	if got := w.Programs(); got[0].ID == before[0].ID || got[0].LinkID != before[0].LinkID {
		t.Errorf("%+v, was %+v", got, before)
	}
}

func TestDigestsAreOfTheInstructionsAlone(t *testing.T) {
	testenv.NeedRoot(t)
	first, second := staged(t).programs["ingress"], staged(t).programs["ingress"]
	if first.LoadedDigest != second.LoadedDigest || first.XlatedDigest != second.XlatedDigest || first.ID == second.ID {
		t.Errorf("the same program twice: %+v, %+v", first, second)
	}
	other := passing()
	other.Programs["ingress"].Instructions[0] = asm.Mov.Imm(asm.R0, 0)
	s, err := Stage(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.programs["ingress"]; got.LoadedDigest == first.LoadedDigest || got.XlatedDigest == first.XlatedDigest {
		t.Errorf("another program: %+v, %+v", first, got)
	}
}

func TestFrozenIsToldWithoutWriting(t *testing.T) {
	testenv.NeedRoot(t)
	for _, spec := range []*ebpf.MapSpec{
		{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		{Type: ebpf.Hash, KeySize: 4, ValueSize: 8, MaxEntries: 2},
		{Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 1},
		{Type: ebpf.Queue, ValueSize: 4, MaxEntries: 2},
		{Type: ebpf.RingBuf, MaxEntries: 4096},
	} {
		t.Run(spec.Type.String(), func(t *testing.T) {
			m, err := ebpf.NewMap(spec)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if is, err := frozen(m); is || err != nil {
				t.Errorf("before: %t, %v", is, err)
			}
			if spec.Type == ebpf.Queue {
				if err := m.Lookup(nil, new(uint32)); !errors.Is(err, ebpf.ErrKeyNotExist) {
					t.Errorf("something was written: %v", err)
				}
			}
			if err := m.Freeze(); err != nil {
				t.Fatal(err)
			}
			if is, err := frozen(m); !is || err != nil {
				t.Errorf("after: %t, %v", is, err)
			}
		})
	}
}
