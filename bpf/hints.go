package bpf

import (
	"regexp"
	"strings"
)

// Refusal is what a person needs of a verifier's log.
type Refusal struct {
	Complaint   string `json:"complaint"`             // the verifier's own words
	Source      string `json:"source,omitempty"`      // line of the program, where the object has line information
	Where       string `json:"where,omitempty"`       // file and line of it, where the kernel says them
	Instruction string `json:"instruction,omitempty"` // the one that was looked at last
	Hint        string `json:"hint,omitempty"`        // what usually helps
}

// Refusal explains why the verifier refused the program. The zero value if the
// kernel refused it for another reason.
func (e *LoadError) Refusal() Refusal { return Explain(e.Log) }

// Explain reads a verifier's log. The complaint comes last but for statistics;
// before it comes the instruction, and some lines above the source.
func Explain(log []string) Refusal {
	var r Refusal
	for _, line := range log {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, ";"):
			text, where, found := strings.Cut(strings.TrimSpace(line[1:]), " @ ")
			r.Source, r.Where = text, ""
			if found {
				r.Where = where
			}
		case instruction.MatchString(line):
			text, _, _ := strings.Cut(line, " ; R") // registers after it
			text, _, _ = strings.Cut(text, " ; frame")
			r.Instruction = strings.TrimSpace(text)
			r.Complaint = "" // what was said before was no complaint
		case line != "" && !chatter.MatchString(line):
			if r.Complaint == "" || hintFor(r.Complaint) == "" { // a summary may follow
				r.Complaint = line
			}
		}
	}
	if r.Complaint == "" {
		return Refusal{}
	}
	r.Hint = hintFor(r.Complaint)
	return r
}

// instruction is a line such as "7: (71) r0 = *(u8 *)(r1 +0)".
var instruction = regexp.MustCompile(`^\d+: \([0-9a-f]{2}\) `)

// chatter are lines that say how the verifier went, and not why it stopped.
var chatter = regexp.MustCompile(`^(processed \d|verification time|stack depth|max_states|total_states|peak_states|mark_read|` +
	`func#\d|Func#\d|Validating |caller:|callee:|from \d+ to |\d+: R\d|\d+: frame|R\d+(_\w+)?=|fp-?\d|frame\d+:|mark_precise|parent |` +
	`last_idx|regs=|propagating|Live regs|arg#\d|Global func|returning from callee|to caller at|\d+: safe|hash of|\d+: [.\d]{10}|` +
	`math between fp|\(truncated\))`)

func hintFor(complaint string) string {
	for _, h := range hints {
		if h.match.MatchString(complaint) {
			return h.hint
		}
	}
	return ""
}

// hints are the usual complaints of kernel/bpf/verifier.c; the first that matches
// counts.
var hints = []struct {
	match *regexp.Regexp
	hint  string
}{
	{regexp.MustCompile(`invalid mem access '(map_value|mem|sock|sock_common|tcp_sock|ptr|rdonly_mem|ringbuf_mem)?\w*_or_null'`), "compare the pointer with NULL before using it: a lookup may find nothing"},
	{regexp.MustCompile(`invalid mem access '(scalar|inv)'`), "that is a number and no pointer; packets are read by bpf_skb_load_bytes, the kernel's memory not at all"},
	{regexp.MustCompile(`invalid mem access`), "what the register holds cannot be read like this; look at what it was assigned last"},
	{regexp.MustCompile(`(invalid access to packet|outside of the packet)`), "compare the end of what is read with data_end, in the branch where it is read"},
	{regexp.MustCompile(`invalid access to map value`), "the offset may lie outside of the value: bound it first (if (i >= N) return), and keep the compiler from forgetting the bound"},
	{regexp.MustCompile(`(unbounded memory access|min value is (negative|outside)|max value is outside|unbounded min value|invalid zero-sized read|invalid map_value.*size)`), "bound the number from both sides before using it, for example x &= 0xff, and make it unsigned"},
	{regexp.MustCompile(`(program is too large|too many instructions|sequence of \d+ jumps|too complex)`), "the verifier follows every path: bound loops by a small constant, or use bpf_loop, which it looks at once"},
	{regexp.MustCompile(`(infinite loop detected|back-edge|loop detected)`), "give the loop a bound that the verifier can see (a constant), or use bpf_loop"},
	{regexp.MustCompile(`(Unreleased reference|reference leak|would lead to reference leak|BPF_EXIT.*reference)`), "give back on every path what was taken: bpf_ringbuf_submit or _discard, bpf_sk_release"},
	{regexp.MustCompile(`(combined stack size|stack size \d+|Too large stack)`), "the stack has 512 bytes over all calls: keep large things in a map for each CPU"},
	{regexp.MustCompile(`(invalid indirect (read|access)|invalid (read|write) (from|to) stack|invalid stack|uninit(ialized)? stack|invalid write to stack)`), "the stack is read where nothing was written, or outside of it: initialise all of it (= {}), padding too, and check the size"},
	{regexp.MustCompile(`R0 !read_ok`), "set a return value on every path"},
	{regexp.MustCompile(`(R0 not a known value|At program exit the register R0|In program exit the register R0|should have been in|has unknown scalar value|has value)`), "return what the attach point takes: 0 or 1 for cgroup_skb, 1 for sock_ops"},
	{regexp.MustCompile(`!read_ok`), "the variable is used before something is assigned to it"},
	{regexp.MustCompile(`cannot call GPL-restricted function`), `declare the licence: char _license[] SEC("license") = "GPL";`},
	{regexp.MustCompile(`(cannot use helper|unknown func|invalid func|helper call (is|might)|not allowed)`), "this kernel has no such helper for this type of program; sluice bpf check names the allowed ones"},
	{regexp.MustCompile(`misaligned`), "read it with bpf_skb_load_bytes or byte by byte: the address is not a multiple of the size"},
	{regexp.MustCompile(`invalid bpf_context access`), "the field is not there for this type of program, or may only be read; see linux/bpf.h"},
	{regexp.MustCompile(`(modified ctx|variable ctx access)`), "keep the pointer to the context as it came: the compiler added an offset to it; make the access unconditional or the variable volatile"},
	{regexp.MustCompile(`(pointer arithmetic|arithmetic (prohibited|on)|pointer comparison|leaks addr|pointer -= pointer)`), "calculate with offsets and not with pointers, and keep pointers out of maps"},
	{regexp.MustCompile(`type=\S+ expected=`), "the argument is of another kind than the helper takes: a pointer to the stack or a map value, or the socket checked for NULL"},
	{regexp.MustCompile(`(unreachable insn|jump out of range|last insn is not an exit|unknown opcode)`), "the instructions are not what a compiler makes: was the object changed, or linked by hand?"},
	{regexp.MustCompile(`(cannot be attached|doesn't have a valid|attach_btf|expected_attach_type)`), "the section's name says where the program goes, for example cgroup_skb/ingress"},
}
