package bpf_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/policies"
)

// goodSpec breaks no rule.
func goodSpec() *bpf.Spec {
	return &bpf.Spec{
		License:  "GPL",
		Programs: []bpf.Program{{Name: "p", Type: "CGroupSKB", AttachType: "None", Instructions: 10, Helpers: []string{"FnKtimeGetNs"}}},
		Maps:     []bpf.Map{{Name: "m", Type: "Hash", KeySize: 4, ValueSize: 4, MaxEntries: 10}},
	}
}

func TestRulesNameWhatIsNotAllowed(t *testing.T) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		t.Fatal(err)
	}
	one := func(rule, got string) []bpf.Violation { return []bpf.Violation{{Rule: rule, Got: got}} }
	for name, tt := range map[string]struct {
		change func(*bpf.Spec)
		want   []bpf.Violation // Want and Why are not compared
	}{
		"nothing":                       {func(*bpf.Spec) {}, nil},
		"a program of a tracer":         {func(s *bpf.Spec) { s.Programs[0].Type = "Kprobe" }, append(one("type of program p", "Kprobe"), one("attach point of program p", "None")...)},
		"a program that moves ports":    {func(s *bpf.Spec) { s.Programs[0].AttachType = "CGroupInet4Bind" }, one("attach point of program p", "CGroupInet4Bind")},
		"a program for all connections": {func(s *bpf.Spec) { s.Programs[0].Type = "SockOps" }, one("attach point of program p", "None")},
		"a helper that writes user memory": {
			func(s *bpf.Spec) { s.Programs[0].Helpers = []string{"FnProbeWriteUser", "FnKtimeGetNs"} },
			one("helper of program p", "FnProbeWriteUser"),
		},
		"a helper nobody knows": {func(s *bpf.Spec) { s.Programs[0].Helpers = []string{"BuiltinFunc(999)"} }, one("helper of program p", "BuiltinFunc(999)")},
		"header options":        {func(s *bpf.Spec) { s.Programs[0].Helpers = []string{"FnLoadHdrOpt"} }, one("helper of program p", "FnLoadHdrOpt")},
		"a long program":        {func(s *bpf.Spec) { s.Programs[0].Instructions = 16385 }, one("length of program p", "16385 instructions")},
		"the longest program":   {func(s *bpf.Spec) { s.Programs[0].Instructions = 16384 }, nil},
		"many programs": {func(s *bpf.Spec) {
			for range 8 {
				s.Programs = append(s.Programs, s.Programs[0])
			}
		}, one("number of programs", "9")},
		"a map of programs": {func(s *bpf.Spec) { s.Maps[0].Type = "ProgramArray" }, one("type of map m", "ProgramArray")},
		"a large map":       {func(s *bpf.Spec) { s.Maps[0].MaxEntries = 1 << 31 }, one("size of all maps", "17179869184 bytes")},
		"two maps that are large together": {func(s *bpf.Spec) {
			s.Maps[0].MaxEntries = 1 << 26
			s.Maps = append(s.Maps, s.Maps[0], s.Maps[0])
		}, one("size of all maps", "1610612736 bytes")},
		"a map larger than numbers are": {
			func(s *bpf.Spec) {
				s.Maps[0].KeySize, s.Maps[0].ValueSize, s.Maps[0].MaxEntries = math.MaxUint32, math.MaxUint32, math.MaxUint32
			},
			one("size of all maps", fmt.Sprint(uint64(math.MaxUint64), " bytes")),
		},
		"a large ring buffer": {func(s *bpf.Spec) { s.Maps[0] = bpf.Map{Name: "m", Type: "RingBuf", MaxEntries: 1 << 31} }, one("size of all maps", "2147483648 bytes")},
		"a map for each CPU": {
			func(s *bpf.Spec) {
				s.Maps[0] = bpf.Map{Name: "m", Type: "PerCPUArray", ValueSize: 1<<30 - 7, MaxEntries: 2}
			},
			one("size of all maps", fmt.Sprint(cpus<<31, " bytes")),
		},
		"a licence too many":  {func(s *bpf.Spec) { s.License = "Proprietary" }, one("license", "Proprietary")},
		"two things together": {func(s *bpf.Spec) { s.License, s.Maps[0].Type = "", "Arena" }, append(one("license", ""), one("type of map m", "Arena")...)},
	} {
		t.Run(name, func(t *testing.T) {
			s := goodSpec()
			tt.change(s)
			got := s.Check(bpf.DefaultRules())
			for i := range got {
				if got[i].Want == "" || got[i].Why == "" {
					t.Errorf("%+v does not say what is allowed, and why", got[i])
				}
				got[i].Want, got[i].Why = "", ""
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := goodSpec().Check(bpf.Rules{}); len(got) != 8 {
		t.Errorf("of eight things, empty rules refuse %+v", got)
	}
}

func TestRulesAreReadStrictly(t *testing.T) {
	text, err := policies.FS.ReadFile("object.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, with, problem string }{
		"as they are":                    {"", "", ""},
		"an unknown part":                {`"program_types"`, `"programtypes": {}, "program_types"`, "programtypes"},
		"an unknown field":               {`"allow"`, `"deny": [], "allow"`, "deny"},
		"an unknown helper":              {`"FnLoop"`, `"FnLop"`, `helpers: unknown name "FnLop"`},
		"a helper in the kernel's words": {`"FnLoop"`, `"bpf_loop"`, "did you mean FnLoop?"},
		"a helper in capitals":           {`"FnLoop"`, `"FNLOOP"`, "did you mean FnLoop?"},
		"an unknown map":                 {`"RingBuf"`, `"ringbuffer"`, `map_types: unknown name "ringbuffer"`},
		"an unknown program":             {`"SockOps"`, `"Sockops"`, "did you mean SockOps?"},
		"an unknown attach point":        {`"CGroupSockOps"`, `"Everywhere"`, `attach_points: unknown name "Everywhere"`},
		"no reason":                      {`"why": "a probe is`, `"why": "", "x": "a probe is`, `"x"`},
		"an empty reason":                {`"why": "of one program: what takes longer to read is not read by a person"`, `"why": ""`, "instructions: want"},
		"no limit":                       {`16384`, `0`, "instructions: want"},
		"a limit below zero":             {`16384`, `-1`, "-1"},
		"text for a limit":               {`16384`, `"16384"`, "string"},
		"an empty list":                  {`["CGroupSKB", "SockOps"]`, `[]`, "program_types: want"},
		"a part twice":                   {"{", `{"helpers": {"why": "x", "allow": ["FnLoop"]},`, `"helpers" is there twice`},
		"a part in two spellings":        {"{", `{"Helpers": {"why": "x", "allow": ["FnLoop"]},`, `"helpers" is there twice`},
		"a reason twice":                 {`"allow"`, `"why": "x", "allow"`, `"why" is there twice`},
		"text after the end":             {"\n}\n", "\n}\n{}", "text after the end"},
		"no JSON":                        {"{", "[", "invalid"},
		"several things at a time":       {`["CGroupSKB", "SockOps"]`, `["A", "B"]`, `"A" (names are like SkMsg); program_types: unknown name "B"`},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(text), tt.old, tt.with, 1)
			_, err := bpf.ParseRules([]byte(changed))
			var rules *bpf.RulesError
			switch {
			case tt.problem == "":
				if err != nil {
					t.Error(err)
				}
			case !errors.As(err, &rules) || !strings.Contains(err.Error(), tt.problem) || strings.Contains(err.Error(), "\n") || rules.Hint() == "":
				t.Errorf("got %v, want a RulesError that says %q", err, tt.problem)
			}
		})
	}
	if _, err := bpf.ParseRules([]byte("{}")); err == nil || strings.Count(err.Error(), "want") != 8 {
		t.Errorf("of eight missing parts, this is said: %v", err)
	}
}

func FuzzParseRules(f *testing.F) {
	text, err := json.Marshal(bpf.DefaultRules())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := bpf.ParseRules(text); err == nil && len(goodSpec().Check(r)) == 0 && len(r.Helpers.Allow) == 0 {
			t.Error("rules that allow no helper let one pass")
		}
	})
}

func TestTheProbeFollowsTheRulesAndTheOthersDoNot(t *testing.T) {
	s, err := bpf.ReadSpec(probe.Object())
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Check(bpf.DefaultRules()); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	s, err = bpf.ReadSpec(mover(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Check(bpf.DefaultRules()); len(got) == 0 {
		t.Error("an object that changes ports passes for a probe")
	}
}

func TestKernelFunctionsAreNamedAndNotAllowed(t *testing.T) {
	obj := compile(t, "GPL", "extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;",
		"struct bpf_dynptr p; return bpf_dynptr_from_skb(skb, 0, &p) == 0;")
	spec, err := bpf.ReadSpec(obj)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range spec.Check(bpf.DefaultRules()) {
		if v.Got == "kernel function bpf_dynptr_from_skb" {
			return
		}
	}
	t.Error("no rule was broken")
}
