package probe

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// dropper drops packets of the loopback device before any control group sees
// them, so that what comes next leaves a hole.
type dropper struct {
	t     testing.TB
	drops *ebpf.Map // of one number: how many packets to drop
}

// newDropper attaches to the network namespace of this thread.
func newDropper(t testing.TB) *dropper {
	t.Helper()
	drops, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = drops.Close() })
	const pass, drop = 0, 2 // of TCX
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Reg(asm.R6, asm.R1),
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.LoadMapPtr(asm.R1, drops.FD()),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "pass"),
			asm.LoadMem(asm.R1, asm.R6, 0, asm.Word), // skb->len
			asm.JLE.Imm(asm.R1, 90, "pass"),          // no payload worth it
			asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
			asm.JEq.Imm(asm.R1, 0, "pass"),
			asm.Sub.Imm(asm.R1, 1),
			asm.StoreMem(asm.R0, 0, asm.R1, asm.Word),
			asm.Mov.Imm(asm.R0, drop),
			asm.Return(),
			asm.Mov.Imm(asm.R0, pass).WithSymbol("pass"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	const lo = 1
	l, err := link.AttachTCX(link.TCXOptions{Interface: lo, Program: prog, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		t.Skip("needs Linux 6.6 to drop packets on their way")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &dropper{t: t, drops: drops}
}

// next drops the next n packets.
func (d *dropper) next(n uint32) {
	if err := d.drops.Put(uint32(0), n); err != nil {
		d.t.Fatal(err)
	}
}

// lossy is a service whose packets can be dropped.
func lossy(t *testing.T) (*service, *dropper) {
	t.Helper()
	s := startAt(t, place{netns: true})
	var d *dropper
	s.inside(t, func() { d = newDropper(t) })
	if d == nil {
		t.FailNow()
	}
	return s, d
}

// inFlight sends the parts without waiting for any, and returns when all have
// arrived, in whatever order.
func (p *peer) inFlight(parts ...[]byte) {
	p.t.Helper()
	total := 0
	for _, part := range parts {
		total += len(part)
		if _, err := p.conn.Write(part); err != nil {
			p.t.Fatal(err)
		}
	}
	if _, err := io.CopyN(io.Discard, p.far, int64(total)); err != nil {
		p.t.Fatal(err)
	}
}

// take returns what was written, and does not send it.
func (p *peer) take() []byte {
	defer p.out.Reset()
	return bytes.Clone(p.out.Bytes())
}

// TestATrackThatIsLostIsPublishedAndFoundAgain lets segments overtake one that is
// dropped. What is lost by that may be counted as lost, but not be made up.
func TestATrackThatIsLostIsPublishedAndFoundAgain(t *testing.T) {
	const before, during, after = 3, 9, 10
	for name, tt := range map[string]struct {
		answers bool // get lost; else the requests do
		segment func(all []byte, frame int) [][]byte
	}{
		"requests, one in a segment":  {segment: frames},
		"requests, cut anywhere":      {segment: thirds},
		"answers, one in a segment":   {answers: true, segment: frames},
		"answers, cut anywhere":       {answers: true, segment: thirds},
		"requests, the last is whole": {segment: lastWhole},
		"answers, the last is whole":  {answers: true, segment: lastWhole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, d := lossy(t)
			p := s.watch(t, Options{})
			var x *pair
			s.inside(t, func() { x = s.pair(t, "127.0.1.1") })
			x.greet()
			for range before {
				x.reply(503, 14, reply)
			}
			for i := range uint32(during) {
				x.client.rawHead(x.stream+2*i+1, true, slices.Concat(question, never.field(0, "x-long", strings.Repeat("q", 100))))
				x.server.rawHead(x.stream+2*i+1, true, slices.Concat(reply, never.field(0, "x-long", strings.Repeat("r", 100))))
			}
			x.stream += 2 * during
			requests, answers := x.client.take(), x.server.take()
			first, second := [][]byte{requests}, [][]byte{answers}
			if tt.answers {
				second = tt.segment(answers, len(answers)/during)
			} else {
				first = tt.segment(requests, len(requests)/during)
				d.next(1)
			}
			x.client.inFlight(first...)
			if tt.answers {
				d.next(1)
			}
			x.server.inFlight(second...)
			for range after {
				x.reply(503, 14, reply)
			}
			got := tallyAt(t, p, x.addr, Loss{})
			lost := got.loss.Requests + got.open // the answer was not seen
			if got.classes[5]+lost != before+during+after || got.classes[5] < before+after || got.grpc[14] != got.classes[5] || got.aborted != 0 {
				t.Errorf("counted %+v; want %d with those that are lost", got, before+during+after)
			}
			if lost > 0 && got.loss.Desynced == 0 {
				t.Errorf("%d are lost, and no track", lost)
			}
		})
	}
}

func frames(all []byte, frame int) [][]byte { return slices.Collect(slices.Chunk(all, frame)) }

func thirds(all []byte, frame int) [][]byte {
	n := len(all) / 3
	return [][]byte{all[:n+frame/2], all[n+frame/2 : 2*n+frame/3], all[2*n+frame/3:]}
}

func lastWhole(all []byte, frame int) [][]byte {
	return [][]byte{all[:frame/2], all[frame/2 : len(all)-frame], all[len(all)-frame:]}
}
