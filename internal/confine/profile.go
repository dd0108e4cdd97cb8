package confine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
)

// Profile is a list of allowed system calls. Whatever is not on it fails with
// EPERM and is logged: a call that a new version of Go makes for the first time
// is an error that can be seen, where killing would end the measurement of a
// whole node.
type Profile struct {
	allowed []call
}

// call is an allowed system call; its conditions have to hold together.
type call struct {
	name       string
	conditions []seccomp.Condition
	start      bool // only until the process serves
}

// startOnly begins the comment of calls that only a start needs: a container
// runtime, which applies the file before the program runs, has to allow them,
// and the program takes them from itself (Serving).
const startOnly = "start only:"

// file is the format of container runtimes (the OCI runtime specification's
// seccomp section, with the comments that Docker's own profile has).
type file struct {
	DefaultAction   string   `json:"defaultAction"`
	DefaultErrnoRet int      `json:"defaultErrnoRet"`
	Architectures   []string `json:"architectures"`
	Syscalls        []struct {
		Comment string   `json:"comment"`
		Names   []string `json:"names"`
		Action  string   `json:"action"`
		Args    []struct {
			Index    uint32 `json:"index"`
			Value    uint64 `json:"value"`
			ValueTwo uint64 `json:"valueTwo"`
			Op       string `json:"op"`
		} `json:"args"`
	} `json:"syscalls"`
}

const (
	actionErrno = "SCMP_ACT_ERRNO"
	actionAllow = "SCMP_ACT_ALLOW"
	errnoEPERM  = 1
)

// ParseProfile reads an allow-list in the format of container runtimes, so that
// one file serves them and this package. Of that format it takes what an
// allow-list needs, and nothing is skipped silently: another action, a call
// that no architecture knows or an unknown field is an error.
func ParseProfile(raw []byte) (*Profile, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return nil, fmt.Errorf("reading seccomp profile: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading seccomp profile: something follows after the profile")
	}
	if f.DefaultAction != actionErrno || f.DefaultErrnoRet != errnoEPERM {
		return nil, fmt.Errorf("reading seccomp profile: the default is %s %d, want %s %d", f.DefaultAction, f.DefaultErrnoRet, actionErrno, errnoEPERM)
	}
	p := &Profile{}
	for i, group := range f.Syscalls {
		if group.Action != actionAllow {
			return nil, fmt.Errorf("reading seccomp profile: group %d has action %q, want %s", i, group.Action, actionAllow)
		}
		var conditions []seccomp.Condition
		for _, arg := range group.Args {
			c, err := condition(arg.Index, arg.Value, arg.ValueTwo, arg.Op)
			if err != nil {
				return nil, fmt.Errorf("reading seccomp profile: group %d (%v): %w", i, group.Names, err)
			}
			conditions = append(conditions, c)
		}
		for _, name := range group.Names {
			p.allowed = append(p.allowed, call{name, conditions, strings.HasPrefix(group.Comment, startOnly)})
		}
	}
	return p, p.check()
}

// condition translates what the profile asks of an argument.
func condition(index uint32, value, second uint64, op string) (seccomp.Condition, error) {
	c := seccomp.Condition{Argument: index, Value: value}
	switch {
	case index > 5:
		return c, fmt.Errorf("argument %d, want 0 to 5", index)
	case op == "SCMP_CMP_EQ":
		c.Operation = seccomp.Equal
	case op != "SCMP_CMP_MASKED_EQ":
		return c, fmt.Errorf("operator %q, want SCMP_CMP_EQ or SCMP_CMP_MASKED_EQ", op)
	case second == 0:
		c.Operation = seccomp.BitsNotSet
	case second == value && bits.OnesCount64(value) == 1: // of several bits, one would be enough for the library
		c.Operation = seccomp.BitsSet
	default:
		return c, fmt.Errorf("mask %#x with %#x, want 0 or the mask, of one bit", value, second)
	}
	return c, nil
}

// check refuses a name that is misspelt, and one that is allowed both always
// and under a condition, which would be void.
func (p *Profile) check() error {
	var errs []error
	always := map[string]bool{}
	for _, c := range p.allowed {
		if len(c.conditions) == 0 {
			if always[c.name] {
				errs = append(errs, fmt.Errorf("%s is there twice", c.name))
			}
			always[c.name] = true
		}
		if _, amd := arch.X86_64.SyscallNames[c.name]; amd {
			continue
		}
		if _, arm := arch.AARCH64.SyscallNames[c.name]; !arm {
			errs = append(errs, fmt.Errorf("no system call %q", c.name))
		}
	}
	for _, c := range p.allowed {
		if always[c.name] && len(c.conditions) > 0 {
			errs = append(errs, fmt.Errorf("%s is allowed always and under a condition", c.name))
		}
	}
	if len(p.allowed) == 0 {
		errs = append(errs, errors.New("no system call is allowed"))
	}
	if len(errs) > 0 {
		return fmt.Errorf("reading seccomp profile: %w", errors.Join(errs...))
	}
	return nil
}

// Serving returns the profile without what only the start needs.
func (p *Profile) Serving() *Profile {
	return &Profile{allowed: slices.DeleteFunc(slices.Clone(p.allowed), func(c call) bool { return c.start })}
}

// Names lists the allowed calls of both architectures, sorted.
func (p *Profile) Names() []string {
	set := map[string]bool{}
	for _, c := range p.allowed {
		set[c.name] = true
	}
	return slices.Sorted(maps.Keys(set))
}

// policy is the profile for one architecture, in the library's terms, and the
// number of calls on it. Calls that only the other architecture has are left out.
func (p *Profile) policy(machine *arch.Info) (seccomp.Policy, int) {
	group := seccomp.SyscallGroup{Action: seccomp.ActionAllow}
	known := map[string]bool{}
	for _, c := range p.allowed {
		name := c.name
		if name == "newfstatat" && machine == arch.AARCH64 {
			name = "fstatat" // as the library has it; container runtimes use one name
		}
		if _, ok := machine.SyscallNames[name]; !ok {
			continue
		}
		known[name] = true
		if len(c.conditions) == 0 {
			group.Names = append(group.Names, name)
		} else {
			group.NamesWithCondtions = append(group.NamesWithCondtions, seccomp.NameWithConditions{Name: name, Conditions: c.conditions})
		}
	}
	return seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{group}}, len(known)
}

// Install puts the filter over all threads, and returns how many calls it allows.
// Apply does it as the last of several things; alone it is what a container
// runtime does before it starts a program.
func (p *Profile) Install() (int, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return 0, err
	}
	policy, calls := p.policy(machine)
	return calls, seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync | seccomp.FilterFlagLog, Policy: policy,
	})
}
