package bpf

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Rules say what an object may contain. An empty list allows nothing.
type Rules struct {
	ProgramTypes    []string
	MapTypes        []string
	Helpers         []string
	Licenses        []string
	MaxInstructions int    // of one program
	MaxMapBytes     uint64 // of all maps together, for one CPU
}

// Violation is one thing in an object that the rules do not allow.
type Violation struct {
	Rule string `json:"rule"` // "helper of program ingress"
	Got  string `json:"got"`
	Want string `json:"want"`
}

// DefaultRules allow what a probe of this kind needs: to look at the packets
// and connections of a control group, and to count. Nothing in them can change a
// packet or a process, or read the memory of the kernel or of a process.
func DefaultRules() Rules {
	return Rules{
		ProgramTypes: []string{"CGroupSKB", "SockOps"},
		MapTypes:     []string{"Array", "PerCPUArray", "Hash", "LRUHash", "SkStorage", "RingBuf"},
		Helpers: []string{
			"FnMapLookupElem", "FnMapUpdateElem", "FnMapDeleteElem", "FnKtimeGetNs", "FnSkStorageGet", "FnSkStorageDelete",
			"FnSkFullsock", "FnSkbLoadBytes", "FnSkbLoadBytesRelative", "FnSkbCgroupId", "FnSkCgroupId", "FnTcpSock",
			"FnSockOpsCbFlagsSet", "FnGetSocketCookie", "FnLoop", "FnRingbufReserve", "FnRingbufSubmit", "FnRingbufDiscard",
			"FnRingbufOutput", "FnGetSmpProcessorId", "FnGetCurrentCgroupId",
		},
		Licenses:        []string{"GPL", "GPL v2", "Dual BSD/GPL", "Dual MIT/GPL"},
		MaxInstructions: 4096,
		MaxMapBytes:     64 << 20,
	}
}

// Check returns every violation of the rules, in the order of the spec.
func (s *Spec) Check(r Rules) []Violation {
	var out []Violation
	expect := func(rule, got string, allowed []string) {
		if !slices.Contains(allowed, got) {
			out = append(out, Violation{Rule: rule, Got: got, Want: strings.Join(allowed, ", ")})
		}
	}
	expect("license", s.License, r.Licenses)
	for _, p := range s.Programs {
		expect("type of program "+p.Name, p.Type, r.ProgramTypes)
		for _, h := range p.Helpers {
			expect("helper of program "+p.Name, h, r.Helpers)
		}
		if p.Instructions > r.MaxInstructions {
			out = append(out, Violation{"length of program " + p.Name, fmt.Sprint(p.Instructions, " instructions"), fmt.Sprint("at most ", r.MaxInstructions)})
		}
	}
	var total uint64
	for _, m := range s.Maps {
		expect("type of map "+m.Name, m.Type, r.MapTypes)
		total += (uint64(m.KeySize) + uint64(m.ValueSize)) * uint64(m.MaxEntries)
	}
	if total > r.MaxMapBytes {
		out = append(out, Violation{"size of all maps", fmt.Sprint(total, " bytes"), fmt.Sprint("at most ", r.MaxMapBytes)})
	}
	return out
}

func nativeOrder() string {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian.String()
	}
	return binary.BigEndian.String()
}
