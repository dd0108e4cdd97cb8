package split

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestTheSplitGoesOnAndIsTakenOver(t *testing.T) {
	s, front, _, dir := pair(t, "127.0.0.1")
	if err := s.SetWeight(3000); err != nil {
		t.Fatal(err)
	}
	cookie, ok, err := s.Occupied(1)
	if err != nil || !ok || cookie == 0 {
		t.Fatalf("slot 1: %d %v %v", cookie, ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ask(front, 1000); got["stable"]+got["canary"] != 1000 || got["canary"] < 200 {
		t.Errorf("with every handle closed: %v", got)
	}
	again, err := Open(dir, netip.MustParseAddrPort(front))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if w, err := again.Weight(); err != nil || w != 3000 {
		t.Errorf("the weight is %d, %v", w, err)
	}
	if got, ok, err := again.Occupied(1); got != cookie || !ok || err != nil {
		t.Errorf("slot 1 holds %d, want %d", got, cookie)
	}
	if err := again.Check(); err != nil {
		t.Error(err)
	}
	if err := again.Remove(); err != nil {
		t.Fatal(err)
	}
	if got := ask(front, 5); got[""] != 5 {
		t.Errorf("after Remove, with handles open: %v", got)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestWhatIsPinnedAndNotOursIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		tamper func(t *testing.T, s *Splitter, dir string)
		front  string
		why    string
	}{
		"another front": {func(*testing.T, *Splitter, string) {}, "127.0.0.2:1", "answers for another address"},
		"another program": {func(t *testing.T, s *Splitter, _ string) {
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.SkLookup, AttachType: ebpf.AttachSkLookup, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer prog.Close()
			if err := s.link.Update(prog); err != nil {
				t.Fatal(err)
			}
		}, "", "its link runs program"},
		"detached": {func(t *testing.T, s *Splitter, _ string) {
			if err := s.link.Detach(); err != nil {
				t.Fatal(err)
			}
		}, "", "its link is detached"},
		"another map": {func(t *testing.T, _ *Splitter, dir string) {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if err := os.Remove(filepath.Join(dir, pinWeight)); err != nil {
				t.Fatal(err)
			}
			if err := m.Pin(filepath.Join(dir, pinWeight)); err != nil {
				t.Fatal(err)
			}
		}, "", "does not use pinned map"},
		"a missing map": {func(t *testing.T, _ *Splitter, dir string) {
			if err := os.Remove(filepath.Join(dir, pinSockets)); err != nil {
				t.Fatal(err)
			}
		}, "", "no such file"},
		"a link of something else": {func(t *testing.T, s *Splitter, dir string) {
			if err := os.Remove(filepath.Join(dir, pinLink)); err != nil {
				t.Fatal(err)
			}
			group := testenv.TempCgroup(t)
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress, License: "GPL",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer prog.Close()
			l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: ebpf.AttachCGroupInetIngress, Program: prog})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.Pin(filepath.Join(dir, pinLink)); err != nil {
				t.Fatal(err)
			}
		}, "", "its link runs program"},
	} {
		t.Run(name, func(t *testing.T) {
			s, front, _, dir := pair(t, "127.0.0.1")
			tt.tamper(t, s, dir)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if tt.front != "" {
				front = tt.front
			}
			var stale *StaleError
			got, err := Open(dir, netip.MustParseAddrPort(front))
			if !errors.As(err, &stale) || !strings.Contains(stale.Why, tt.why) {
				t.Errorf("Open says %v, want a StaleError with %q", err, tt.why)
			}
			if err == nil {
				_ = got.Close()
			}
		})
	}
}

func TestAStartThatWasCutShortIsCleanedUp(t *testing.T) {
	dir := pinDir(t)
	front := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t))
	s := open(t, dir, front)
	if err := os.Remove(filepath.Join(dir, pinLink)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // the link is gone now, its maps are not
		t.Fatal(err)
	}
	again, err := Open(dir, front)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	set(t, again, 0, run(t, "stable", "127.0.0.1:0", plain))
	if got := ask(front.String(), 10); got["stable"] != 10 {
		t.Errorf("%v", got)
	}
}
