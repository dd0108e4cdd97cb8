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
}

// Prefixes of the names of pins. What begins with them in the folder is ours.
const (
	pinnedMap  = "map_"
	pinnedLink = "link_"
)

// BusyError means that another process holds a folder of pins.
type BusyError struct{ Dir string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("what is pinned at %s is held by another process", e.Dir)
}

// Hint says what to do about it.
func (e *BusyError) Hint() string { return "stop the other one, or pin in another folder" }

// OpenPins makes a folder for pins, if there is none yet, and holds it until
// Close. The error is a *BusyError if another process has it.
func OpenPins(dir string) (*Pins, error) {
	if err := onBPFFS(dir); err != nil {
		return nil, err
	}
	for {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("making the folder of pins: %w", err)
		}
		lock, err := os.Open(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // its last holder has just removed it
		}
		if err != nil {
			return nil, fmt.Errorf("opening the folder of pins: %w", err)
		}
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && still(dir, lock) {
			return &Pins{dir: dir, lock: lock, files: map[string]uint64{}}, nil
		}
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &BusyError{Dir: dir}
		}
		if err != nil {
			return nil, fmt.Errorf("locking the folder of pins: %w", err)
		}
	}
}

// onBPFFS checks that a folder is, or will be, on a BPF file system.
func onBPFFS(dir string) error {
	var fs unix.Statfs_t
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		err := unix.Statfs(at, &fs)
		if errors.Is(err, unix.ENOENT) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return fmt.Errorf("looking for a BPF file system at %s: %w", at, err)
		}
		if fs.Type != unix.BPF_FS_MAGIC {
			return fmt.Errorf("pinning at %s: %s is not on a BPF file system", dir, at)
		}
		return nil
	}
}

// still reports whether a path leads to an open file.
func still(path string, f *os.File) bool {
	there, err := os.Stat(path)
	if err != nil {
		return false
	}
	open, err := f.Stat()
	return err == nil && os.SameFile(there, open)
}

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
	if err := os.Remove(p.path(pinnedLink + program)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
	var stat unix.Stat_t
	if err := unix.Stat(p.path(name), &stat); err != nil {
		return err
	}
	p.files[name] = stat.Ino
	return nil
}

// check finds a pin that is gone, or another file.
func (p *Pins) check() error {
	for name, want := range p.files {
		var stat unix.Stat_t
		err := unix.Stat(p.path(name), &stat)
		if err == nil && stat.Ino == want {
			continue
		}
		e := &MismatchError{What: "file " + p.path(name), Want: "the pin that was made", Got: "another one"}
		switch {
		case errors.Is(err, unix.ENOENT):
			e.Got = missing
		case err != nil:
			return fmt.Errorf("looking at pin %s: %w", p.path(name), err)
		}
		e.Program, _ = strings.CutPrefix(name, pinnedLink)
		if m, ok := strings.CutPrefix(name, pinnedMap); ok {
			e.Program, e.Map = "", m
		}
		return e
	}
	return nil
}

// Since is when what is pinned was pinned, the zero time if nothing is.
func (p *Pins) Since() time.Time {
	for name := range p.files {
		if info, err := os.Stat(p.path(name)); err == nil && strings.HasPrefix(name, pinnedMap) {
			return info.ModTime()
		}
	}
	return time.Time{}
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
