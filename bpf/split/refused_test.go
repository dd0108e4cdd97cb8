package split

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/internal/testenv"
)

var anyFront = netip.MustParseAddrPort("127.0.0.1:1")

// repin puts another program or map under a name.
func repin(t *testing.T, dir, name string, what interface{ Pin(string) error }) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.Remove(path), what.Pin(path)); err != nil {
		t.Fatal(err)
	}
}

// runs puts a program where the splitter's own is: into the link and the pin.
func (s *Splitter) runs(t *testing.T, prog *ebpf.Program) {
	t.Helper()
	if err := s.link.Update(prog); err != nil {
		t.Fatal(err)
	}
	repin(t, s.dir, pinProgram, prog)
}

func passes(t *testing.T) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// changeable is the program of the splitter with the same constants, in a map
// that anybody may write later.
func changeable(t *testing.T, s *Splitter) *ebpf.Program {
	t.Helper()
	spec, err := loadSplit()
	if err != nil {
		t.Fatal(err)
	}
	_, constants, err := fresh(s.front)
	if err != nil {
		t.Fatal(err)
	}
	rodata := spec.Maps[".rodata"].Copy()
	rodata.Name = "open"                // the library freezes by the name
	rodata.Flags |= unix.BPF_F_MMAPABLE // as the library does
	open, err := ebpf.NewMap(rodata)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := open.Put(uint32(0), constants); err != nil {
		t.Fatal(err)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		".rodata": open, "sockets": s.objs.Sockets, "weight": s.objs.Weight, "counts": s.objs.Counts,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coll.Close)
	return coll.Programs["split"]
}

func TestWhatLooksLikeOursIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper func(t *testing.T, s *Splitter)
		why    string
	}{
		"another program runs and is pinned": {func(t *testing.T, s *Splitter) { s.runs(t, passes(t)) }, "its program has tag "},
		"the same program with an address that can be changed": {func(t *testing.T, s *Splitter) {
			s.runs(t, changeable(t, s))
		}, "its address can be changed"},
		"the program holds a map more": {func(t *testing.T, s *Splitter) {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := s.objs.Split.BindMap(m); err != nil {
				t.Fatal(err)
			}
		}, "uses 2 maps that are not pinned, expected 1"},
		"there is no program": {func(t *testing.T, s *Splitter) {
			if err := os.Remove(filepath.Join(s.dir, pinProgram)); err != nil {
				t.Fatal(err)
			}
		}, "no such file"},
		"there is a map in the place of the link": {func(t *testing.T, s *Splitter) {
			repin(t, s.dir, pinLink, s.objs.Weight)
		}, "link"},
	} {
		t.Run(name, func(t *testing.T) {
			s, front, _, dir := pair(t, "127.0.0.1")
			if err := s.Check(); err != nil {
				t.Fatalf("before anything: %v", err)
			}
			tt.tamper(t, s)
			var stale *StaleError
			got, err := Open(dir, netip.MustParseAddrPort(front))
			if !errors.As(err, &stale) || stale.Dir != dir || !strings.Contains(stale.Why, tt.why) {
				t.Errorf("Open says %v, want a StaleError with %q", err, tt.why)
			}
			if err == nil {
				_ = got.Close()
			}
		})
	}
}

// elsewhere runs something in a network namespace of its own.
func elsewhere(t *testing.T, do func()) {
	t.Helper()
	testenv.NeedRoot(t)
	failed := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for ever: the thread ends with its namespace
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			do()
		}
		failed <- err
	}()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
}

func TestASplitterOfAnotherNetworkNamespaceIsNotOurs(t *testing.T) {
	dir := pinDir(t)
	s := open(t, dir, anyFront)
	var err error
	elsewhere(t, func() { err = s.Check() })
	var stale *StaleError
	if !errors.As(err, &stale) || !strings.Contains(err.Error(), "is attached to network namespace") {
		t.Errorf("seen from another namespace: %v", err)
	}
	if err := s.Check(); err != nil {
		t.Errorf("seen from its own: %v", err)
	}
}

func TestFoldersThatCannotHoldASplitter(t *testing.T) {
	testenv.NeedRoot(t)
	for name, tt := range map[string]struct {
		prepare func(t *testing.T) (dir string)
		says    string
		is      error
	}{
		"there is a file where the folder should be": {func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "front")
			if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			return file
		}, "looking for a pinned splitter: ", unix.ENOTDIR},
		"there is something of somebody else in it": {func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "removing pin ", unix.ENOTEMPTY},
		"the BPF file system may not be written": {func(t *testing.T) string {
			dir := pinDir(t)
			if err := unix.Mount("", filepath.Dir(dir), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "removing pin ", unix.EROFS},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Open(tt.prepare(t), anyFront)
			if !errors.Is(err, tt.is) || !strings.HasPrefix(err.Error(), tt.says) {
				t.Errorf("Open says %v, want %q", err, tt.says)
			}
			if err == nil {
				_ = s.Close()
			}
		})
	}
}

// What sluice still asks of a splitter that it has let go of is an error that says
// what it was about: it must not pass for an empty slot, or for no connections.
func TestASplitterThatWasLetGoAnswersNothing(t *testing.T) {
	dir := pinDir(t)
	s := open(t, dir, anyFront)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for says, ask := range map[string]func() error{
		"emptying slot 1: ":            func() error { return s.ClearSocket(1) },
		"reading slot 0: ":             func() error { _, _, err := s.Occupied(0); return err },
		"setting the weight: ":         func() error { return s.SetWeight(1) },
		"reading the weight: ":         func() error { _, err := s.Weight(); return err },
		"reading the counters: ":       func() error { _, err := s.Connections(); return err },
		"its program cannot be read: ": s.Check,
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
	again, err := Open(dir, anyFront) // it goes on
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := s.Remove(); err == nil || !strings.HasPrefix(err.Error(), "detaching the traffic splitter: ") {
		t.Errorf("Remove says %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its pins are left: %v", err)
	}
}

// The kernel runs at most 64 programs of this kind in a namespace.
func TestANamespaceThatIsFullSaysSoAndNothingIsLeft(t *testing.T) {
	dir := pinDir(t) // nothing may be left in it
	prog := passes(t)
	var err error
	elsewhere(t, func() {
		ns, nsErr := os.Open(netNamespace)
		if nsErr != nil {
			t.Error(nsErr)
			return
		}
		defer ns.Close()
		for range 64 {
			l, linkErr := link.AttachNetNs(int(ns.Fd()), prog)
			if linkErr != nil {
				t.Error(linkErr)
				return
			}
			defer l.Close()
		}
		_, err = Open(dir, anyFront)
	})
	if !errors.Is(err, unix.E2BIG) || !strings.HasPrefix(err.Error(), "attaching the traffic splitter: ") {
		t.Errorf("the 65th splitter: %v", err)
	}
}
