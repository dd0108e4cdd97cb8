package bpf

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// MismatchError means that what is loaded is not what was loaded and verified.
type MismatchError struct {
	Program string // what it is about: a program,
	Map     string // or a map, or neither
	What    string // of it: attachedPrograms, for example
	Pin     bool   // it is where it is pinned, and what runs is right
	Want    string
	Got     string
}

func (e *MismatchError) Error() string {
	of := ""
	switch {
	case e.Program != "":
		of = "program " + e.Program + ": "
	case e.Map != "":
		of = "map " + e.Map + ": "
	}
	return fmt.Sprintf("%s%s is %s, expected %s", of, e.What, e.Got, e.Want)
}

// attachedPrograms is what is compared with the programs of others at one place.
const attachedPrograms = "list of attached programs"

// Hint says what may have happened.
func (e *MismatchError) Hint() string {
	if e.What == attachedPrograms {
		return "another probe, or a program of something else, is attached to that control group: end it, or measure another group"
	}
	return "somebody has changed what is loaded in the kernel since it was verified"
}

// deepEvery is how many calls of Check there are to one that reads the
// instructions again.
const deepEvery = 60

// Check asks the kernel whether every program is still attached where it was,
// is still the same, uses the same maps, and runs alone: a program in front of
// it could hide packets from it. The maps must be writable as they were, and
// what is pinned must be the same files. The error is a *MismatchError, or says
// that the kernel could not be asked. It takes some ten microseconds; one call
// in 60 is a DeepCheck.
func (w *Watch) Check() error {
	w.checks++
	if w.checks%deepEvery == 0 {
		return w.DeepCheck()
	}
	return w.check()
}

func (w *Watch) check() error {
	for _, p := range w.order {
		if err := w.checkProgram(p); err != nil {
			return err
		}
	}
	for _, m := range w.maps {
		if err := m.check(); err != nil {
			return err
		}
	}
	if w.pins != nil {
		return w.pins.check()
	}
	return nil
}

// DeepCheck is Check, and reads the translated instructions of every program
// again.
func (w *Watch) DeepCheck() error {
	if err := w.check(); err != nil {
		return err
	}
	for _, p := range w.order {
		got, err := xlatedDigest(p.program.FD())
		if err != nil {
			return fmt.Errorf("reading the instructions of program %s: %w", p.Name, err)
		}
		if got != "" && got != p.XlatedDigest { // without CAP_BPF the kernel shows none
			return &MismatchError{Program: p.Name, What: "digest of its translated instructions", Want: string(p.XlatedDigest), Got: string(got)}
		}
	}
	return nil
}

func (w *Watch) checkProgram(p *watched) error {
	detached := &MismatchError{Program: p.Name, What: "link", Want: "attached to " + w.path, Got: "detached"}
	if p.link == nil { // it could not be made anew
		return detached
	}
	info, err := p.link.Info()
	if err != nil {
		return fmt.Errorf("reading the link of program %s: %w", p.Name, err)
	}
	if cg := info.Cgroup(); cg == nil || cg.CgroupId != w.group {
		return detached
	}
	if uint32(info.Program) != p.ID { // an id is not used again while we hold the program
		return &MismatchError{Program: p.Name, What: "program in the kernel", Want: fmt.Sprintf("id %d, tag %s", p.ID, p.Tag), Got: whoIs(info.Program)}
	}
	uses, err := programMaps(p.program.FD())
	if err != nil {
		return fmt.Errorf("reading the maps of program %s: %w", p.Name, err)
	}
	if !slices.Equal(uses, p.maps) {
		return &MismatchError{Program: p.Name, What: "list of its maps", Want: fmt.Sprint(p.maps), Got: fmt.Sprint(uses)}
	}
	return w.alone(p, ebpf.ProgramID(p.ID))
}

// whoIs describes a program of somebody else as far as the kernel lets us: to
// open it takes CAP_SYS_ADMIN, which the daemon has given away.
func whoIs(id ebpf.ProgramID) string {
	text := fmt.Sprintf("id %d", id)
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return text
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return text
	}
	return fmt.Sprintf("%s, tag %s, name %q", text, info.Tag, info.Name)
}

// alone checks that exactly the wanted programs are attached to the group
// itself with a program's attach type.
func (w *Watch) alone(p *watched, want ...ebpf.ProgramID) error {
	attached, err := link.QueryPrograms(link.QueryOptions{Target: int(w.dir.Fd()), Attach: p.attach})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return &MismatchError{Program: p.Name, What: "control group " + w.path, Want: "there", Got: "removed"}
	}
	if err != nil {
		return fmt.Errorf("asking what is attached to %s: %w", w.path, err)
	}
	same := len(attached.Programs) == len(want)
	for i, a := range attached.Programs {
		same = same && a.ID == want[i]
	}
	if same {
		return nil
	}
	var got []string
	for _, a := range attached.Programs {
		if slices.Contains(want, a.ID) {
			got = append(got, fmt.Sprint("id ", a.ID))
		} else {
			got = append(got, whoIs(a.ID))
		}
	}
	return &MismatchError{Program: p.Name, What: attachedPrograms, Want: fmt.Sprint(want), Got: fmt.Sprint(got)}
}

// unoccupied checks, before attaching, that nobody else is where the programs
// go. In a link that was taken over is still its last program.
func (w *Watch) unoccupied() error {
	for _, p := range w.order {
		var there []ebpf.ProgramID
		if p.link != nil {
			info, err := p.link.Info()
			if err != nil {
				return fmt.Errorf("reading the link of program %s: %w", p.Name, err)
			}
			there = append(there, info.Program)
		}
		if err := w.alone(p, there...); err != nil {
			return err
		}
	}
	return nil
}

func (m *watchedMap) check() error {
	if IsData(m.Name) { // constants are frozen, which cannot be undone
		return nil
	}
	frozen, err := frozen(m.live)
	if err != nil {
		return fmt.Errorf("reading map %s: %w", m.Name, err)
	}
	if frozen {
		return &MismatchError{Map: m.Name, What: "it", Want: "writable", Got: "frozen"}
	}
	return nil
}
