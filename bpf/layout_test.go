package bpf_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
)

var (
	u32 = &btf.Int{Name: "unsigned int", Size: 4}
	s32 = &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}
	u64 = &btf.Int{Name: "unsigned long long", Size: 8}
)

// measuring is an object with one map, whose values have fields of every kind.
func measuring() (*ebpf.CollectionSpec, *btf.Struct) {
	inner := &btf.Struct{Name: "inner", Size: 8, Members: []btf.Member{{Name: "kind", Type: u32}, {Name: "phase", Type: s32, Offset: 32}}}
	value := &btf.Struct{Name: "counts", Size: 64, Members: []btf.Member{
		{Name: "sent", Type: u64},
		{Name: "lost", Type: u64, Offset: 64},
		{Name: "in", Type: inner, Offset: 128},
		{Name: "buckets", Type: &btf.Array{Index: u32, Type: u32, Nelems: 4}, Offset: 192},
		{Name: "either", Type: &btf.Union{Size: 8, Members: []btf.Member{{Name: "a", Type: u64}, {Name: "b", Type: u32}}}, Offset: 320},
		{Name: "flags", Type: u32, Offset: 384, BitfieldSize: 3},
		{Name: "code", Type: &btf.Enum{Name: "code", Size: 4, Values: []btf.EnumValue{{Name: "OK"}, {Name: "BAD", Value: 1}}}, Offset: 416},
		{Name: "when", Type: &btf.Typedef{Name: "time", Type: &btf.Const{Type: u64}}, Offset: 448},
	}}
	return &ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{"p": {Name: "p", Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetIngress}},
		Maps: map[string]*ebpf.MapSpec{
			"slots":   {Name: "slots", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 8, Key: u32, Value: value},
			".rodata": {Name: ".rodata", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1},
		},
		Variables: map[string]*ebpf.VariableSpec{"size": {Name: "size", SectionName: ".rodata", Value: make([]byte, 4)}},
	}, value
}

func TestADifferentLayoutIsFound(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(s *ebpf.CollectionSpec, value *btf.Struct)
		what   string // empty: the same layout
	}{
		"nothing": {func(*ebpf.CollectionSpec, *btf.Struct) {}, ""},
		"two fields change places": {func(_ *ebpf.CollectionSpec, v *btf.Struct) {
			v.Members[0].Name, v.Members[1].Name = v.Members[1].Name, v.Members[0].Name
		}, "field 1 of value of map slots"},
		"two fields inside a field change places": {func(_ *ebpf.CollectionSpec, v *btf.Struct) {
			in := v.Members[2].Type.(*btf.Struct)
			in.Members[0].Name, in.Members[1].Name = "phase", "kind"
		}, "field 1 of field in of value of map slots"},
		"a field moves":            {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[5].Offset = 400 }, "field 6 of value of map slots"},
		"a field has another name": {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[7].Name = "until" }, "field 8 of value of map slots"},
		"a field becomes signed": {func(_ *ebpf.CollectionSpec, v *btf.Struct) {
			v.Members[0].Type = &btf.Int{Size: 8, Encoding: btf.Signed}
		}, "field sent of value of map slots"},
		"a field becomes smaller":     {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[1].Type = u32 }, "field lost of value of map slots"},
		"a bit field has more bits":   {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[5].BitfieldSize = 4 }, "field 6 of value of map slots"},
		"an array of other things":    {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[3].Type.(*btf.Array).Type = s32 }, "element of field buckets of value of map slots"},
		"a longer array":              {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[3].Type.(*btf.Array).Nelems = 5 }, "field buckets of value of map slots"},
		"a number for an enumeration": {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[6].Type = u32 }, "field code of value of map slots"},
		"an enumeration means other things": {func(_ *ebpf.CollectionSpec, v *btf.Struct) {
			v.Members[6].Type.(*btf.Enum).Values = []btf.EnumValue{{Name: "BAD"}, {Name: "OK", Value: 1}}
		}, "field code of value of map slots"},
		"another alternative": {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members[4].Type.(*btf.Union).Members[1].Name = "c" }, "field 2 of field either of value of map slots"},
		"a field is missing":  {func(_ *ebpf.CollectionSpec, v *btf.Struct) { v.Members = v.Members[:7] }, "value of map slots"},
		"types have other names": {func(_ *ebpf.CollectionSpec, v *btf.Struct) {
			v.Name, v.Members[2].Type.(*btf.Struct).Name = "counters", "parser"
			v.Members[7].Type, v.Members[0].Type = u64, &btf.Volatile{Type: &btf.Typedef{Name: "u64", Type: u64}}
		}, ""},
		"no types":                    {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["slots"].Value = nil }, "value of map slots"},
		"another type of keys":        {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["slots"].Key = s32 }, "key of map slots"},
		"more entries":                {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["slots"].MaxEntries++ }, "map slots"},
		"other flags":                 {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["slots"].Flags = 1 }, "map slots"},
		"another kind of map":         {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["slots"].Type = ebpf.PerCPUArray }, "map slots"},
		"a map is missing":            {func(s *ebpf.CollectionSpec, _ *btf.Struct) { delete(s.Maps, "slots") }, "map slots"},
		"a map too many":              {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps["more"] = &ebpf.MapSpec{Name: "more"} }, "map more"},
		"other data":                  {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Maps[".bss"] = &ebpf.MapSpec{Name: ".bss"} }, ""},
		"a program is missing":        {func(s *ebpf.CollectionSpec, _ *btf.Struct) { clear(s.Programs) }, "program p"},
		"a program too many":          {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Programs["q"] = &ebpf.ProgramSpec{} }, "program q"},
		"another kind of program":     {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Programs["p"].Type = ebpf.SockOps }, "program p"},
		"another place for a program": {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Programs["p"].AttachType = ebpf.AttachCGroupInetEgress }, "program p"},
		"a constant is missing":       {func(s *ebpf.CollectionSpec, _ *btf.Struct) { clear(s.Variables) }, "variable size"},
		"a larger constant":           {func(s *ebpf.CollectionSpec, _ *btf.Struct) { s.Variables["size"].Value = make([]byte, 8) }, "variable size"},
	} {
		t.Run(name, func(t *testing.T) {
			want, _ := measuring()
			got, value := measuring()
			tt.change(got, value)
			err := bpf.SameLayout(want, got)
			var layout *bpf.LayoutError
			switch {
			case tt.what == "" && err != nil:
				t.Errorf("%v, want the same layout", err)
			case tt.what != "" && (!errors.As(err, &layout) || layout.What != tt.what || layout.Want == layout.Got || layout.Hint() == ""):
				t.Errorf("%v, want a LayoutError on %q", err, tt.what)
			}
		})
	}
}

func TestTheProbeHasItsOwnLayoutAndTheMoverHasNot(t *testing.T) {
	ours, err := bpf.Open(probe.Object(), bpf.DigestOf(probe.Object()))
	if err != nil {
		t.Fatal(err)
	}
	again, err := bpf.Open(probe.Object(), bpf.DigestOf(probe.Object()))
	if err != nil {
		t.Fatal(err)
	}
	if err := bpf.SameLayout(ours, again); err != nil {
		t.Error(err)
	}
	other, err := bpf.Open(mover(t), bpf.DigestOf(mover(t)))
	if err != nil {
		t.Fatal(err)
	}
	if err := bpf.SameLayout(ours, other); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("%v", err)
	}
}
