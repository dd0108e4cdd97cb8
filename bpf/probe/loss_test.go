package probe

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/internal/testenv"
)

// lose drops a quarter of the packets with payload that pass a control group in
// one direction.
func lose(t *testing.T, group string, attach ebpf.AttachType, verdict int32) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: attach, License: "GPL",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // skb->len
			asm.JLE.Imm(asm.R2, 100, "keep"),
			asm.FnGetPrandomU32.Call(),
			asm.And.Imm(asm.R0, 3),
			asm.JNE.Imm(asm.R0, 0, "keep"),
			asm.Mov.Imm(asm.R0, verdict),
			asm.Return(),
			asm.Mov.Imm(asm.R0, 1).WithSymbol("keep"),
			asm.Return(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	l, err := link.AttachCgroup(link.CgroupOptions{Path: group, Attach: attach, Program: prog})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
}

// exchange sends requests, one at a time and two together, on one connection.
func exchange(t *testing.T, s *service, rounds int) {
	t.Helper()
	long := get("/?" + strings.Repeat("x", 100))
	c := dial(t, s.v4)
	for range rounds {
		c.send(long)
		c.answers(1, "GET")
		c.send(long + long)
		c.answers(2, "GET")
	}
}

func TestWhatIsSentAgainIsCountedOnce(t *testing.T) {
	const rounds = 12
	const drop, busy = 0, 2 // verdicts: dropped; dropped by a full queue
	for name, tt := range map[string]struct {
		attach  ebpf.AttachType
		verdict int32
		client  bool // on the client's side
	}{
		"requests get lost":            {attach: ebpf.AttachCGroupInetIngress, verdict: drop},
		"answers do not leave at once": {attach: ebpf.AttachCGroupInetEgress, verdict: drop},
		"answers find a full queue":    {attach: ebpf.AttachCGroupInetEgress, verdict: busy},
		"answers get lost":             {attach: ebpf.AttachCGroupInetIngress, verdict: drop, client: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			p := s.watch(t, Options{})
			group := s.group
			if tt.client {
				group = testenv.TempCgroup(t)
				moveInto(t, group)
			}
			lose(t, group, tt.attach, tt.verdict)
			exchange(t, s, rounds)
			got, snap := total(t, p)
			if got.Classes != oks(3*rounds) || snap.Loss.Requests != 0 {
				t.Errorf("counted %v, want %d", got.Classes, 3*rounds)
			}
			if tt.client && got.Retransmits == 0 {
				t.Error("no retransmits were counted")
			}
		})
	}
}
