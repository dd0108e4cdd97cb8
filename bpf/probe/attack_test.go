package probe

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// impostor is a program that lets everything pass and sees nothing.
func impostor(t testing.TB, attach ebpf.AttachType) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: attach, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = prog.Close() })
	return prog
}

// linkOf opens a link of the probe by its id, as anybody with the privilege can.
func linkOf(t *testing.T, p *Probe, program string) link.Link {
	t.Helper()
	for _, l := range p.Loaded().Programs {
		if l.Name == program {
			found, err := link.NewFromID(link.ID(l.LinkID))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = found.Close() })
			return found
		}
	}
	t.Fatalf("no program %s", program)
	return nil
}

// mapOf opens a map of the probe by its id.
func mapOf(t *testing.T, p *Probe, name string) *ebpf.Map {
	t.Helper()
	for _, m := range p.Loaded().Maps {
		if m.Name == name {
			found, err := ebpf.NewMapFromID(ebpf.MapID(m.ID))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = found.Close() })
			return found
		}
	}
	t.Fatalf("no map %s", name)
	return nil
}

// double makes an empty map of the same kind.
func double(t *testing.T, m *ebpf.Map) *ebpf.Map {
	t.Helper()
	twin, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "totals", Type: m.Type(), KeySize: m.KeySize(), ValueSize: m.ValueSize(), MaxEntries: m.MaxEntries(), Flags: m.Flags(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = twin.Close() })
	return twin
}

// beside attaches an impostor to the group itself, without a link.
func beside(t *testing.T, group string, at link.Anchor) {
	t.Helper()
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	const multi = 2 // BPF_F_ALLOW_MULTI
	err = link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: int(dir.Fd()), Program: impostor(t, ebpf.AttachCGroupInetIngress), Attach: ebpf.AttachCGroupInetIngress, Anchor: at, Flags: multi,
	})
	if at != nil && errors.Is(err, unix.EINVAL) {
		t.Skip("before Linux 6.17 programs of a control group have no order")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// repin puts something else in the place of a pin.
func repin(t *testing.T, p *Probe, name string, what interface{ Pin(string) error }) {
	t.Helper()
	path := filepath.Join(p.opts.Pin, name)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if what == nil {
		return
	}
	if err := what.Pin(path); err != nil {
		t.Fatal(err)
	}
}

type attack struct {
	do            func(t *testing.T, p *Probe, group string)
	program, of   string // what the finding is about: a program or a map
	what          string
	again, pinned bool // it can be undone by a swap; the probe is pinned
}

var attacks = map[string]attack{
	"a program is replaced": {do: func(t *testing.T, p *Probe, _ string) {
		if err := linkOf(t, p, "egress").Update(impostor(t, ebpf.AttachCGroupInetEgress)); err != nil {
			t.Fatal(err)
		}
	}, program: "egress", what: "program in the kernel", again: true},
	"a program is detached": {do: func(t *testing.T, p *Probe, _ string) {
		if err := linkOf(t, p, "connection").Detach(); err != nil {
			t.Fatal(err)
		}
	}, program: "connection", what: "link", again: true},
	"a pinned program is detached": {do: func(t *testing.T, p *Probe, _ string) {
		if err := linkOf(t, p, "connection").Detach(); err != nil {
			t.Fatal(err)
		}
	}, program: "connection", what: "link", again: true, pinned: true},
	"another program runs beside it": {do: func(t *testing.T, _ *Probe, group string) {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: ebpf.AttachCGroupInetEgress, Program: impostor(t, ebpf.AttachCGroupInetEgress)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
	}, program: "egress", what: "list of attached programs"},
	"another program runs behind it": {do: func(t *testing.T, _ *Probe, group string) {
		beside(t, group, nil)
	}, program: "ingress", what: "list of attached programs"},
	"another program runs in front of it": {do: func(t *testing.T, _ *Probe, group string) {
		beside(t, group, link.Head())
	}, program: "ingress", what: "list of attached programs"},
	"it is replaced by its own twin": {do: func(t *testing.T, p *Probe, _ string) {
		twin, err := Load(Object(), bpf.DigestOf(Object()), Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = twin.Close() })
		if err := linkOf(t, p, "ingress").Update(twin.coll.Programs["ingress"]); err != nil {
			t.Fatal(err)
		}
	}, program: "ingress", what: "program in the kernel", again: true},
	"a map is frozen": {do: func(t *testing.T, p *Probe, _ string) {
		if err := mapOf(t, p, "totals").Freeze(); err != nil {
			t.Fatal(err)
		}
	}, of: "totals", what: "it"},
	"a map of the same name is put under a program": {do: func(t *testing.T, p *Probe, _ string) {
		prog, err := ebpf.NewProgramFromID(ebpf.ProgramID(p.Loaded().Programs[0].ID))
		if err != nil {
			t.Fatal(err)
		}
		defer prog.Close()
		if err := prog.BindMap(double(t, mapOf(t, p, "totals"))); err != nil {
			t.Fatal(err)
		}
	}, program: "connection", what: "list of its maps", again: true},
	"another map is pinned in its place": {do: func(t *testing.T, p *Probe, _ string) {
		repin(t, p, "map_totals", double(t, mapOf(t, p, "totals")))
	}, of: "totals", what: "file", again: true, pinned: true},
	"a pinned map is removed": {do: func(t *testing.T, p *Probe, _ string) {
		repin(t, p, "map_totals", nil)
	}, of: "totals", what: "file", again: true, pinned: true},
	"the folder of pins is moved away": {do: func(t *testing.T, p *Probe, _ string) {
		if err := os.Rename(p.opts.Pin, p.opts.Pin+"-moved"); err != nil {
			t.Fatal(err)
		}
	}, what: "folder", again: true, pinned: true},
	"another link is pinned in its place": {do: func(t *testing.T, p *Probe, _ string) {
		l, err := link.AttachCgroup(link.CgroupOptions{
			Path: testenv.TempCgroup(t), Attach: ebpf.AttachCGroupInetEgress, Program: impostor(t, ebpf.AttachCGroupInetEgress),
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		repin(t, p, "link_egress", l)
	}, program: "egress", what: "file", again: true, pinned: true},
}

func TestAttacksOnTheProbeAreFoundAndPutRight(t *testing.T) {
	for name, tt := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			var opts Options
			if tt.pinned {
				opts.Pin = pinFolder(t)
			}
			p := s.watch(t, opts)
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			tt.do(t, p, s.parent)
			mismatch := found(t, p.Check())
			if mismatch.Program != tt.program || mismatch.Map != tt.of || !strings.HasPrefix(mismatch.What, tt.what) || mismatch.Want == mismatch.Got {
				t.Errorf("Check says %v", mismatch)
			}
			if tt.again {
				putRight(t, s, p)
				return
			}
			if err := p.Swap(Object(), p.Digest()); err != nil {
				t.Fatal(err)
			}
			if still := found(t, p.Check()); still.Program != tt.program || still.Map != tt.of {
				t.Errorf("after a swap Check says %v", still)
			}
		})
	}
}

// found is the mismatch that an error is.
func found(t *testing.T, err error) *bpf.MismatchError {
	t.Helper()
	var mismatch *bpf.MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("%v, want a MismatchError", err)
	}
	return mismatch
}

// putRight swaps, and the probe must be whole again.
func putRight(t *testing.T, s *service, p *Probe) {
	t.Helper()
	if err := p.Swap(Object(), bpf.DigestOf(Object())); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Errorf("after a swap: %v", err)
	}
	c := dial(t, s.v4)
	c.send(get("/"))
	c.answers(1, "GET")
	if got, _ := total(t, p); got.Requests != 1 {
		t.Errorf("counted %d after the swap, want 1", got.Requests)
	}
}

// withCapabilities runs f on a thread that has only some capabilities left. The
// thread ends with it.
func withCapabilities(t *testing.T, f func() error, keep ...uint) error {
	t.Helper()
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		var set [2]unix.CapUserData
		for _, c := range keep {
			set[c/32].Effective |= 1 << (c % 32)
		}
		set[0].Permitted, set[1].Permitted = set[0].Effective, set[1].Effective
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &set[0]); err != nil {
			result <- err
			return
		}
		result <- f()
	}()
	return <-result
}

func TestAttacksAreFoundWithFewPrivileges(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Pin: pinFolder(t)})
	few := func(f func() error) error { return withCapabilities(t, f, unix.CAP_BPF, unix.CAP_NET_ADMIN) }
	if err := few(p.Check); err != nil {
		t.Fatal(err)
	}
	if err := few(p.watch.DeepCheck); err != nil {
		t.Fatal(err)
	}
	if err := linkOf(t, p, "egress").Update(impostor(t, ebpf.AttachCGroupInetEgress)); err != nil {
		t.Fatal(err)
	}
	if e := found(t, few(p.Check)); e.Program != "egress" || strings.Contains(e.Got, "tag") {
		t.Errorf("with few privileges: %v", e)
	}
	if e := found(t, p.Check()); !strings.Contains(e.Got, "tag") {
		t.Errorf("with all: %v", e)
	}
	if err := few(func() error { return p.Swap(Object(), p.Digest()) }); err != nil {
		t.Errorf("swapping with few privileges: %v", err)
	}
	if err := few(p.Check); err != nil {
		t.Errorf("after the swap: %v", err)
	}
}

// other is the same probe from a compiler of another name: another digest.
func other(t *testing.T) []byte {
	t.Helper()
	obj := bytes.Replace(Object(), []byte("19.1.7"), []byte("19.9.9"), 1)
	if bytes.Equal(obj, Object()) {
		t.Fatal("the object does not name its compiler")
	}
	return obj
}

func TestObjectsThatAreNotTheSignedProbeAreRefused(t *testing.T) {
	foreign, err := os.ReadFile("../bind/mover_bpfel.o")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	p := s.watch(t, Options{})
	var digest *bpf.DigestError
	var layout *LayoutError
	var format *bpf.FormatError
	for name, tt := range map[string]struct {
		obj  []byte
		want bpf.Digest
		as   any
	}{
		"not the signed one": {other(t), p.Digest(), &digest},
		"another program":    {foreign, bpf.DigestOf(foreign), &layout},
		"cut off":            {Object()[:5000], bpf.DigestOf(Object()[:5000]), &format},
		"nothing":            {nil, bpf.DigestOf(nil), &format},
	} {
		if _, err := Load(tt.obj, tt.want, Options{}); !errors.As(err, tt.as) {
			t.Errorf("%s: Load says %v, want a %T", name, err, tt.as)
		}
		if err := p.Swap(tt.obj, tt.want); !errors.As(err, tt.as) {
			t.Errorf("%s: Swap says %v, want a %T", name, err, tt.as)
		}
	}
	if err := p.Check(); err != nil {
		t.Errorf("the probe did not survive the refusals: %v", err)
	}
	if !strings.HasPrefix(string(p.Loaded().Digest), "sha256:") || p.Digest() != bpf.DigestOf(Object()) {
		t.Errorf("the probe says it is %s", p.Loaded().Digest)
	}
}
