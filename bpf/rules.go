package bpf

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/sluice-cd/sluice/policies"
)

// Rules say what an object may contain. The zero value allows nothing.
type Rules struct {
	ProgramTypes Allowed `json:"program_types"`
	AttachPoints Allowed `json:"attach_points"`
	MapTypes     Allowed `json:"map_types"`
	Helpers      Allowed `json:"helpers"`
	Licenses     Allowed `json:"licenses"`
	Programs     Limit   `json:"programs"`     // in one object
	Instructions Limit   `json:"instructions"` // of one program
	MapBytes     Limit   `json:"map_bytes"`    // of all maps; maps for each CPU count once for each
}

// Allowed is a list of names, and the reason for it. An empty one allows nothing.
type Allowed struct {
	Why   string   `json:"why"`
	Allow []string `json:"allow"`
}

// Limit is the largest number allowed, and the reason for it.
type Limit struct {
	Why string `json:"why"`
	Max uint64 `json:"max"`
}

// Violation is one thing in an object that the rules do not allow.
type Violation struct {
	Rule string `json:"rule"` // "helper of program ingress"
	Got  string `json:"got"`
	Want string `json:"want"`
	Why  string `json:"why,omitempty"` // the reason of the rule
}

// RulesError lists everything that is wrong with a file of rules.
type RulesError struct{ Problems []error }

func (e *RulesError) Error() string {
	return "rules for eBPF objects: " + strings.ReplaceAll(errors.Join(e.Problems...).Error(), "\n", "; ")
}

// Unwrap returns the problems.
func (e *RulesError) Unwrap() []error { return e.Problems }

// Hint says where to find an example.
func (e *RulesError) Hint() string {
	return "policies/object.json is the file that is used without --rules; change a copy of it"
}

// DefaultRules allow what a probe of this kind needs: to look at the packets and
// connections of a control group, and to count. They are policies/object.json.
func DefaultRules() Rules {
	text, err := policies.FS.ReadFile("object.json")
	if err != nil {
		panic(err) // embedded: a test loads it
	}
	r, err := ParseRules(text)
	if err != nil {
		panic(err)
	}
	return r
}

// ParseRules reads rules as policies/object.json has them. Every part has to be
// there, with its reason, and every name has to be one that exists. The error is a
// *RulesError.
func ParseRules(text []byte) (Rules, error) {
	var r Rules
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return Rules{}, &RulesError{Problems: []error{err}}
	}
	if _, err := dec.Token(); err != io.EOF {
		return Rules{}, &RulesError{Problems: []error{errors.New("text after the end")}}
	}
	if twice := repeated(json.NewDecoder(bytes.NewReader(text))); twice != "" {
		return Rules{}, &RulesError{Problems: []error{fmt.Errorf("%q is there twice", twice)}}
	}
	if problems := r.problems(); len(problems) > 0 {
		return Rules{}, &RulesError{Problems: problems}
	}
	return r, nil
}

// repeated returns a name that an object has twice, in any spelling: of these
// encoding/json would silently take the last. The text is known to be JSON.
func repeated(dec *json.Decoder) string {
	begin, err := dec.Token()
	if err != nil || begin != json.Delim('{') && begin != json.Delim('[') {
		return ""
	}
	seen := map[string]bool{}
	for dec.More() {
		if begin == json.Delim('{') {
			token, _ := dec.Token()
			name := strings.ToLower(fmt.Sprint(token))
			if seen[name] {
				return name
			}
			seen[name] = true
		}
		if name := repeated(dec); name != "" {
			return name
		}
	}
	_, _ = dec.Token()
	return ""
}

func (r Rules) problems() []error {
	var list []error
	for v, i := reflect.ValueOf(r), 0; i < v.NumField(); i++ {
		field := v.Type().Field(i).Tag.Get("json")
		switch part := v.Field(i).Interface().(type) {
		case Allowed:
			list = append(list, part.problems(field)...)
		case Limit:
			if part.Why == "" || part.Max == 0 {
				list = append(list, fmt.Errorf(`%s: want {"why": reason, "max": number above 0}`, field))
			}
		}
	}
	return list
}

func (a Allowed) problems(field string) []error {
	if a.Why == "" || len(a.Allow) == 0 {
		return []error{fmt.Errorf(`%s: want {"why": reason, "allow": [names]}`, field)}
	}
	known, limited := knownNames[field]
	if !limited {
		return nil
	}
	var list []error
	for _, name := range a.Allow {
		if names := known(); !slices.Contains(names, name) {
			list = append(list, fmt.Errorf("%s: unknown name %q (%s)", field, name, nearest(name, names)))
		}
	}
	return list
}

// knownNames are the names that cilium/ebpf has for what the kernel knows.
var knownNames = map[string]func() []string{
	"program_types": namesOf[ebpf.ProgramType],
	"attach_points": func() []string { return append(namesOf[ebpf.AttachType](), ingress) },
	"map_types":     namesOf[ebpf.MapType],
	"helpers":       namesOf[asm.BuiltinFunc],
}

// namesOf lists the names of an enumeration: behind its end come numbers.
func namesOf[T interface {
	~uint32 | ~int32
	fmt.Stringer
}]() []string {
	var names []string
	for i := T(0); ; i++ {
		name := i.String()
		if strings.HasSuffix(name, ")") {
			return names
		}
		names = append(names, name)
	}
}

// nearest guesses which name was meant; people write bpf_map_lookup_elem, too.
func nearest(name string, known []string) string {
	plain := strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(name), "bpf_"), "_", "")
	for _, k := range known {
		if folded := strings.ToLower(k); folded == plain || folded == "fn"+plain {
			return "did you mean " + k + "?"
		}
	}
	return "names are like " + known[len(known)/2]
}

// ingress has the number 0, which cilium/ebpf calls None.
const ingress = "CGroupInetIngress"

// attachPoint is the name of an attach type.
func attachPoint(programType, attachType string) string {
	if programType == ebpf.CGroupSKB.String() && attachType == ebpf.AttachNone.String() {
		return ingress
	}
	return attachType
}

// Check returns every violation of the rules, in the order of the spec. The
// memory of maps is that on this machine.
func (s *Spec) Check(r Rules) []Violation {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		cpus = 1
	}
	return s.check(r, uint64(cpus))
}

func (s *Spec) check(r Rules, cpus uint64) []Violation {
	var out []Violation
	name := func(rule, got string, a Allowed) {
		if !slices.Contains(a.Allow, got) {
			out = append(out, Violation{Rule: rule, Got: got, Want: strings.Join(a.Allow, ", "), Why: a.Why})
		}
	}
	number := func(rule string, got uint64, unit string, l Limit) {
		if got > l.Max {
			out = append(out, Violation{Rule: rule, Got: fmt.Sprint(got, unit), Want: fmt.Sprint("at most ", l.Max), Why: l.Why})
		}
	}
	name("license", s.License, r.Licenses)
	number("number of programs", uint64(len(s.Programs)), "", r.Programs)
	for _, p := range s.Programs {
		name("type of program "+p.Name, p.Type, r.ProgramTypes)
		name("attach point of program "+p.Name, attachPoint(p.Type, p.AttachType), r.AttachPoints)
		for _, h := range p.Helpers {
			name("helper of program "+p.Name, h, r.Helpers)
		}
		number("length of program "+p.Name, uint64(p.Instructions), " instructions", r.Instructions)
	}
	var total uint64
	for _, m := range s.Maps {
		name("type of map "+m.Name, m.Type, r.MapTypes)
		total = addLimited(total, m.bytes(cpus))
	}
	number("size of all maps", total, " bytes", r.MapBytes)
	return out
}

// bytes is the memory that a map may take, without what the kernel adds.
// Storage in sockets has no size: it grows with the sockets.
func (m Map) bytes(cpus uint64) uint64 {
	if m.Type == ebpf.RingBuf.String() {
		return uint64(m.MaxEntries)
	}
	value := uint64(m.ValueSize)
	if strings.HasPrefix(m.Type, "PerCPU") || strings.HasPrefix(m.Type, "LRUCPU") {
		value = (value + 7) / 8 * 8 * cpus
	}
	high, low := bits.Mul64(uint64(m.KeySize)+value, uint64(m.MaxEntries))
	if high != 0 {
		return math.MaxUint64
	}
	return low
}

// addLimited adds; where that does not fit, the result is the largest number.
func addLimited(a, b uint64) uint64 {
	if sum, carry := bits.Add64(a, b, 0); carry == 0 {
		return sum
	}
	return math.MaxUint64
}

func nativeOrder() string {
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return binary.LittleEndian.String()
	}
	return binary.BigEndian.String()
}
