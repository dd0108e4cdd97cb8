package probe

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
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

func TestAttacksOnTheProbeAreFoundAndPutRight(t *testing.T) {
	for name, tt := range map[string]struct {
		attack  func(t *testing.T, p *Probe, group string)
		what    string
		program string
		again   bool // the attack can be undone by a swap
	}{
		"a program is replaced": {func(t *testing.T, p *Probe, _ string) {
			if err := linkOf(t, p, "egress").Update(impostor(t, ebpf.AttachCGroupInetEgress)); err != nil {
				t.Fatal(err)
			}
		}, "program in the kernel", "egress", true},
		"a program is detached": {func(t *testing.T, p *Probe, _ string) {
			if err := linkOf(t, p, "connection").Detach(); err != nil {
				t.Fatal(err)
			}
		}, "link", "connection", true},
		"another program runs beside it": {func(t *testing.T, p *Probe, group string) {
			l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: ebpf.AttachCGroupInetIngress, Program: impostor(t, ebpf.AttachCGroupInetIngress)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "list of attached programs", "ingress", false},
		"it is replaced by its own twin": {func(t *testing.T, p *Probe, _ string) {
			twin, err := Load(Object(), bpf.DigestOf(Object()), Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = twin.Close() })
			if err := linkOf(t, p, "ingress").Update(twin.coll.Programs["ingress"]); err != nil {
				t.Fatal(err)
			}
		}, "program in the kernel", "ingress", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			p := s.watch(t, Options{})
			if err := p.Check(); err != nil {
				t.Fatal(err)
			}
			tt.attack(t, p, s.parent)
			var mismatch *bpf.MismatchError
			if err := p.Check(); !errors.As(err, &mismatch) {
				t.Fatalf("Check says %v, want a MismatchError", err)
			}
			if mismatch.Program != tt.program || mismatch.What != tt.what || mismatch.Want == mismatch.Got {
				t.Errorf("Check says %v", mismatch)
			}
			if !tt.again {
				return
			}
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
		})
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

func TestSwapUnderLoadCountsEveryRequestOnce(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	var sent atomic.Uint64
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		c := dial(t, s.v4)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c.send(get("/?wait=1ms"))
				c.answers(1, "GET")
				sent.Add(1)
			}
		})
	}
	objects := [2][]byte{other(t), Object()}
	var swaps int
	for begin := time.Now(); time.Since(begin) < 2*time.Second; swaps++ {
		obj := objects[swaps%2]
		if err := p.Swap(obj, bpf.DigestOf(obj)); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	close(stop)
	clients.Wait()
	got, snap := total(t, p)
	t.Logf("%d requests, %d swaps", sent.Load(), swaps)
	if got.Requests != sent.Load() || snap.Loss.Requests != 0 || got.Aborted != 0 {
		t.Errorf("counted %d, %d lost, %d aborted; sent %d", got.Requests, snap.Loss.Requests, got.Aborted, sent.Load())
	}
}
