package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Pins is a folder on a BPF file system in which maps and links outlive the
// process that made them. One process at a time holds it: the lock is on the
// folder itself and ends with the process, however that ends.
type Pins struct {
	dir   string
	lock  *os.File
	links map[string]link.Link // taken over, not attached anew yet
	group uint64               // of these links
	files map[string]uint64    // inodes of what was pinned, by file name
	amiss error                // why what is amiss could not be mended; nil: nobody has tried in vain
}

// Prefixes of the names of pins. What begins with them in the folder is ours.
const (
	pinnedMap  = "map_"
	pinnedLink = "link_"
)

func (p *Pins) path(name string) string { return filepath.Join(p.dir, name) }

// names lists what is ours in the folder, links first.
func (p *Pins) names() ([]string, error) {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return nil, fmt.Errorf("listing the pins: %w", err)
	}
	var links, maps []string
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), pinnedLink):
			links = append(links, e.Name())
		case strings.HasPrefix(e.Name(), pinnedMap):
			maps = append(maps, e.Name())
		}
	}
	return append(links, maps...), nil
}

// start removes what is pinned and pins maps instead. Links follow, one by one,
// so without all links a set of pins is not complete.
func (p *Pins) start(all map[string]*ebpf.Map) error {
	if err := p.empty(); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if IsData(name) {
			continue
		}
		if err := p.pinMap(name, all[name]); err != nil {
			return fmt.Errorf("pinning map %s: %w", name, err)
		}
	}
	return nil
}

// pinMap pins a second handle: the first would remember where it was pinned
// before.
func (p *Pins) pinMap(name string, m *ebpf.Map) error {
	second, err := m.Clone()
	if err != nil {
		return err
	}
	defer second.Close()
	return p.pin(pinnedMap+name, second)
}

func (p *Pins) pinLink(program string, l link.Link) error {
	_ = l.Unpin() // it would remember that it is pinned there
	if err := p.remove(pinnedLink + program); err != nil {
		return fmt.Errorf("removing the pinned link of program %s: %w", program, err)
	}
	if err := p.pin(pinnedLink+program, l); err != nil {
		return fmt.Errorf("pinning the link of program %s: %w", program, err)
	}
	return nil
}

func (p *Pins) pin(name string, what interface{ Pin(string) error }) error {
	if err := what.Pin(p.path(name)); err != nil {
		return err
	}
	return p.remember(name)
}

// remember notes which file a pin is.
func (p *Pins) remember(name string) error {
	id, err := p.inode(name)
	if err == nil {
		p.files[name] = id
	}
	return err
}

func (p *Pins) inode(name string) (uint64, error) {
	var stat unix.Stat_t
	err := unix.Fstatat(int(p.lock.Fd()), name, &stat, unix.AT_SYMLINK_NOFOLLOW)
	return stat.Ino, err
}

// remove makes place for a pin.
func (p *Pins) remove(name string) error {
	if err := os.Remove(p.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// mend pins again what somebody has removed, or put something else in the place
// of. What cannot be mended is told by check.
func (p *Pins) mend(all []watchedMap, links map[string]link.Link) {
	p.amiss = p.sameFolder()
	if p.amiss != nil {
		return
	}
	for _, m := range all {
		if p.lost(pinnedMap + m.Name) {
			p.amiss = errors.Join(p.amiss, p.remove(pinnedMap+m.Name), p.pinMap(m.Name, m.live))
		}
	}
	for program, l := range links {
		if p.lost(pinnedLink + program) {
			p.amiss = errors.Join(p.amiss, p.pinLink(program, l))
		}
	}
}

// sameFolder makes the folder anew if it is gone, or another one.
func (p *Pins) sameFolder() error {
	if still(p.dir, p.lock) {
		return nil
	}
	anew, err := OpenPins(p.dir)
	if err != nil {
		return err
	}
	_ = p.lock.Close()
	p.lock = anew.lock
	return nil
}

// lost reports whether what was pinned under a name is not there any more.
func (p *Pins) lost(name string) bool {
	want, pinned := p.files[name]
	is, err := p.inode(name)
	return pinned && (err != nil || is != want)
}

// check finds a pin that is gone, or another file.
func (p *Pins) check() error {
	if !still(p.dir, p.lock) {
		return p.mismatch("folder "+p.dir, "the one that pins were made in", "gone, or another one")
	}
	for name, want := range p.files {
		is, err := p.inode(name)
		if err == nil && is == want {
			continue
		}
		got := "another one"
		switch {
		case errors.Is(err, unix.ENOENT):
			got = missing
		case err != nil:
			return fmt.Errorf("looking at pin %s: %w", p.path(name), err)
		}
		e := p.mismatch("file "+p.path(name), "the pin that was made", got)
		if program, ok := strings.CutPrefix(name, pinnedLink); ok {
			e.Program = program
		} else {
			e.Map = strings.TrimPrefix(name, pinnedMap)
		}
		return e
	}
	return nil
}

func (p *Pins) mismatch(what, want, got string) *MismatchError {
	if p.amiss != nil {
		got += fmt.Sprintf(" and not to be mended (%v)", p.amiss)
	}
	return &MismatchError{What: what, Want: want, Got: got, Pin: true}
}

// Since is when the first map of what is pinned was pinned, the zero time if
// nothing is. It is the same for every process that takes them over.
func (p *Pins) Since() time.Time {
	var first time.Time
	for name := range p.files {
		info, err := os.Stat(p.path(name))
		if err != nil || !strings.HasPrefix(name, pinnedMap) {
			continue
		}
		if at := info.ModTime(); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// empty ends what is pinned.
func (p *Pins) empty() error {
	names, err := p.names()
	if err != nil {
		return err
	}
	clear(p.files)
	return RemovePins(p.dir, names...)
}

// Close lets another process have the folder, and removes it if it is empty.
func (p *Pins) Close() error {
	p.forget()
	_ = os.Remove(p.dir)
	return p.lock.Close()
}

// forget closes links that were taken over and not used.
func (p *Pins) forget() {
	for _, l := range p.links {
		_ = l.Close()
	}
	p.links = nil
}

// RemovePins removes pinned objects by name. A link among them is detached at
// once; the kernel would do it some time later. It is no error if one is not
// there.
func RemovePins(dir string, names ...string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if l, err := link.LoadPinnedLink(path, nil); err == nil {
			_ = l.Detach() // not every kind of link can be; removing it is what counts
			_ = l.Close()
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing pin %s: %w", path, err)
		}
	}
	return nil
}
