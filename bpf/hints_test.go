package bpf_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// compile makes an object of a program, given as the body of one function of
// type cgroup_skb and what has to stand before it.
func compile(t *testing.T, license, before, body string) []byte {
	t.Helper()
	testenv.Need(t, "clang-19")
	dir := t.TempDir()
	source := `#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
char _license[] SEC("license") = "` + license + `";
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 4); __type(key, __u32); __type(value, __u64); } values SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } ring SEC(".maps");
` + before + `
SEC("cgroup_skb/ingress") int ingress(struct __sk_buff *skb)
{
` + body + `
}
`
	if err := os.WriteFile(filepath.Join(dir, "try.bpf.c"), []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "clang-19", "-O2", "-g", "-target", "bpfel", "-mcpu=v3", "-I/usr/include/x86_64-linux-gnu", "-idirafter", "/usr/include/aarch64-linux-gnu", "-c", "try.bpf.c", "-o", "try.bpf.o")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	obj, err := os.ReadFile(filepath.Join(dir, "try.bpf.o"))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// TestWhatTheVerifierRefusesIsExplained gives programs to the kernel that it
// really refuses.
func TestWhatTheVerifierRefusesIsExplained(t *testing.T) {
	testenv.NeedRoot(t)
	const lookup = "__u32 key = skb->len; __u64 *value = bpf_map_lookup_elem(&values, &key);\n"
	for name, tt := range map[string]struct {
		before, body string
		source, hint string // parts of them
	}{
		"a lookup that is not checked": {"", lookup + "return *value & 1; // WRONG", "WRONG", "NULL"},
		"a number for a pointer":       {"", "return *(volatile char *)(long)skb->len & 1; // WRONG", "WRONG", "bpf_skb_load_bytes"},
		"a packet without its end": {
			"", "char *data = (char *)(long)skb->data;\nreturn *(volatile char *)data & 1; // WRONG", "WRONG", "data_end",
		},
		"an index without a bound": {
			"struct big { char text[64]; };\nstruct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, struct big); } bigs SEC(\".maps\");",
			"__u32 key = 0; struct big *b = bpf_map_lookup_elem(&bigs, &key); if (!b) return 1;\nreturn b->text[skb->len] & 1; // WRONG", "WRONG", "bound",
		},
		"a loop that never ends": {
			"", "volatile int i = 0;\nwhile (skb->len != 7) i++; // WRONG\nreturn 1;", "", "bpf_loop",
		},
		"a loop that takes too long": {
			"", "volatile long sum = 0;\nfor (int i = 0; i < 10000000; i++) sum += bpf_ktime_get_ns(); // WRONG\nreturn 1;", "", "bpf_loop",
		},
		"a place in the ring that is kept": {
			"", "void *place = bpf_ringbuf_reserve(&ring, 8, 0);\nif (!place) return 1;\nreturn 0; // WRONG", "", "bpf_ringbuf_submit",
		},
		"a stack that is not initialised": {
			"", "char text[8];\nbpf_ringbuf_output(&ring, text, 16, 0); // WRONG\nreturn 1;", "WRONG", "initialise",
		},
		"a return value that is none": {"", "return skb->len; // WRONG", "", "0 or 1"},
		"a helper of other programs":  {"", "return bpf_skb_store_bytes(skb, 0, skb, 1, 0) & 1; // WRONG", "WRONG", "helper"},
		"a helper nobody has": {
			"static long (*nobody)(void) = (void *)9999;", "return nobody() & 1; // WRONG", "WRONG", "helper",
		},
		"a context field of others": {
			"", "return *(volatile __u32 *)&skb->tc_classid & 1; // WRONG", "WRONG", "linux/bpf.h",
		},
		"a misaligned stack": {
			"", "volatile long place[2] = {}; volatile long *at = place;\nasm volatile(\"%0 += 3\" : \"+r\"(at));\nreturn *at & 1; // WRONG", "WRONG", "multiple",
		},
		"a calculation with the context": {
			"", "volatile char *at = (void *)skb;\nat += skb->len; return *at & 1; // WRONG", "WRONG", "context",
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused := refusedByKernel(t, compile(t, "GPL", tt.before, tt.body))
			r := refused.Refusal()
			tail := refused.Log[max(0, len(refused.Log)-12):]
			if r.Complaint == "" || !strings.Contains(r.Hint, tt.hint) || !strings.Contains(r.Source, tt.source) {
				t.Errorf("%+v, want a source line with %q and a hint with %q; the log ends with\n%s", r, tt.source, tt.hint, strings.Join(tail, "\n"))
			}
			t.Logf("%+v", r)
		})
	}
}

func refusedByKernel(t *testing.T, obj []byte) *bpf.LoadError {
	t.Helper()
	spec, err := bpf.Open(obj, bpf.DigestOf(obj))
	if err != nil {
		t.Fatal(err)
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err == nil {
		coll.Close()
		t.Fatal("the kernel takes it")
	}
	var refused *bpf.LoadError
	if !errors.As(err, &refused) {
		t.Fatal(err)
	}
	return refused
}

func TestTheLicenceIsAskedFor(t *testing.T) {
	testenv.NeedRoot(t)
	r := refusedByKernel(t, compile(t, "Proprietary", "", `return bpf_trace_printk("x", 2) & 1;`)).Refusal()
	if !strings.Contains(r.Complaint, "GPL") || !strings.Contains(r.Hint, "licence") {
		t.Errorf("%+v", r)
	}
}

// TestExplain reads logs as other kernels write them.
func TestExplain(t *testing.T) {
	for name, tt := range map[string]struct {
		log  string
		want bpf.Refusal // Hint is not compared
	}{
		"nothing":         {"", bpf.Refusal{}},
		"only statistics": {"func#0 @0\nprocessed 2 insns (limit 1000000) max_states_per_insn 0", bpf.Refusal{}},
		"Linux 5.10": {
			"; return *value & 1;\n5: (79) r0 = *(u64 *)(r0 +0)\nR0 invalid mem access 'map_value_or_null'\nprocessed 6 insns (limit 1000000)",
			bpf.Refusal{Complaint: "R0 invalid mem access 'map_value_or_null'", Source: "return *value & 1;", Instruction: "5: (79) r0 = *(u64 *)(r0 +0)"},
		},
		"registers behind the instruction": {
			"0: R1=ctx() R10=fp0\n; int x = 0; @ a.bpf.c:7\n0: (b7) r0 = 0                       ; R0_w=0\n1: (71) r0 = *(u8 *)(r0 +0)\nR0 invalid mem access 'scalar'",
			bpf.Refusal{Complaint: "R0 invalid mem access 'scalar'", Source: "int x = 0;", Where: "a.bpf.c:7", Instruction: "1: (71) r0 = *(u8 *)(r0 +0)"},
		},
		"a summary after the complaint": {
			"4: (95) exit\nUnreleased reference id=2 alloc_insn=4\nBPF_EXIT instruction in main prog would lead to reference leak\nprocessed 9 insns",
			bpf.Refusal{Complaint: "Unreleased reference id=2 alloc_insn=4", Instruction: "4: (95) exit"},
		},
		"words that no hint is for": {
			"4: (95) exit\nsomething that a later kernel says\n", bpf.Refusal{Complaint: "something that a later kernel says", Instruction: "4: (95) exit"},
		},
	} {
		got := bpf.Explain(strings.Split(tt.log, "\n"))
		got.Hint = ""
		if got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

func FuzzExplain(f *testing.F) {
	f.Add("; a\n1: (95) exit\nR0 !read_ok")
	f.Fuzz(func(t *testing.T, log string) {
		if r := bpf.Explain(strings.Split(log, "\n")); r.Complaint == "" && r != (bpf.Refusal{}) {
			t.Errorf("no complaint, but %+v", r)
		}
	})
}
