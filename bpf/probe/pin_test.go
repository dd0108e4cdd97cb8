package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// pinFolder is a folder for the pins of a test, which is not there yet.
func pinFolder(t testing.TB) string {
	t.Helper()
	testenv.NeedRoot(t)
	root, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, "sluice-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "probe")
}

// ask sends requests one after the other.
func ask(t *testing.T, s *service, n int) {
	t.Helper()
	c := dial(t, s.v4)
	for range n {
		c.send(get("/"))
		c.answers(1, "GET")
	}
}

// counts fails the test unless so many requests were counted.
func counts(t *testing.T, p *Probe, want uint64) {
	t.Helper()
	if got, snap := total(t, p); got.Requests != want || snap.Loss.Requests != 0 {
		t.Errorf("counted %d, %d lost, want %d", got.Requests, snap.Loss.Requests, want)
	}
}

// left is a probe that has counted three requests, was pinned and let go of.
func left(t *testing.T, s *service, opts Options) {
	t.Helper()
	p := s.watch(t, opts)
	ask(t, s, 3)
	counts(t, p, 3)
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestAPinnedProbeIsTakenOverUnderLoad(t *testing.T) {
	s := start(t)
	folder := pinFolder(t)
	p := s.watch(t, Options{Pin: folder})
	since := p.Since()
	if ok, err := p.Inherited(); ok || err != nil || since.IsZero() || time.Since(since) > time.Minute {
		t.Fatalf("inherited %t, %v, since %v", ok, err, since)
	}
	l := offer(t, s.v4, 1000)
	for range 5 {
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		p = s.watch(t, Options{Pin: folder})
		if ok, err := p.Inherited(); !ok || err != nil || !p.Since().Equal(since) {
			t.Fatalf("inherited %t, %v, since %v, want %v", ok, err, p.Since(), since)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	}
	counts(t, p, l.end())
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Close has left pins: %v", err)
	}
}

func TestAnotherObjectOfTheSameLayoutTakesOver(t *testing.T) {
	s := start(t)
	opts := Options{Pin: pinFolder(t)}
	left(t, s, opts)
	p, err := Load(other(t), bpf.DigestOf(other(t)), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Attach(s.parent); err != nil {
		t.Fatal(err)
	}
	ask(t, s, 2)
	counts(t, p, 5)
	if ok, err := p.Inherited(); !ok || err != nil || p.Loaded().Digest != bpf.DigestOf(other(t)) {
		t.Errorf("inherited %t, %v, loaded %s", ok, err, p.Loaded().Digest)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestPinsStayUntilTheNextProbeIsAttached(t *testing.T) {
	s := start(t)
	opts := Options{Pin: pinFolder(t)}
	left(t, s, opts)
	if _, err := Load(Object(), bpf.DigestOf(nil), opts); err == nil {
		t.Fatal("an object of another digest was loaded")
	}
	p, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: opts.Pin, Workloads: 7})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, s, 2) // still counted by the first one
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p = s.watch(t, opts)
	counts(t, p, 5)
	if ok, err := p.Inherited(); !ok || err != nil {
		t.Errorf("inherited %t, %v", ok, err)
	}
}

// pinned opens what a file of the folder is.
func pinned(t *testing.T, folder, program string) link.Link {
	t.Helper()
	l, err := link.LoadPinnedLink(filepath.Join(folder, "link_"+program), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func drop(t *testing.T, folder, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

// swapPin pins something else under the name of a pin.
func swapPin(t *testing.T, folder, name string, what interface{ Pin(string) error }) {
	t.Helper()
	drop(t, folder, name)
	if err := what.Pin(filepath.Join(folder, name)); err != nil {
		t.Fatal(err)
	}
}

func openTotals(t *testing.T, folder string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.LoadPinnedMap(filepath.Join(folder, "map_totals"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestPinsThatCannotBeGoneOnWithAreReplaced(t *testing.T) {
	for name, tt := range map[string]struct {
		do  func(t *testing.T, s *service, folder string)
		why string
	}{
		"a link is missing": {func(t *testing.T, _ *service, folder string) { drop(t, folder, "link_egress") }, "pin link_egress is missing"},
		"all links": {func(t *testing.T, _ *service, folder string) {
			for _, name := range []string{"link_egress", "link_ingress", "link_connection"} {
				drop(t, folder, name)
			}
		}, "pin link_connection is missing"},
		"a map is missing": {func(t *testing.T, _ *service, folder string) { drop(t, folder, "map_totals") }, "pin map_totals is missing"},
		"a map is too many": {func(t *testing.T, _ *service, folder string) {
			pinCopy(t, openTotals(t, folder), filepath.Join(folder, "map_older"))
		}, "pin map_older is there"},
		"a program as a map": {func(t *testing.T, _ *service, folder string) {
			swapPin(t, folder, "map_totals", impostor(t, ebpf.AttachCGroupInetEgress))
		}, "opening map totals"},
		"a map of other size": {func(t *testing.T, _ *service, folder string) {
			m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 3})
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			swapPin(t, folder, "map_totals", m)
		}, "map totals: "},
		"a map with other fields": {func(t *testing.T, _ *service, folder string) {
			spec, err := prepare(Object(), bpf.DigestOf(Object()), Options{})
			if err != nil {
				t.Fatal(err)
			}
			changed := spec.Maps["workloads"]
			key := btf.Copy(changed.Key).(*btf.Struct)
			key.Members[1].Name, key.Members[2].Name = key.Members[2].Name, key.Members[1].Name
			changed.Key = key
			m, err := ebpf.NewMap(changed)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			swapPin(t, folder, "map_workloads", m)
		}, "field 2 of key of map workloads"},
		"a foreign map of the same kind": {func(t *testing.T, _ *service, folder string) {
			swapPin(t, folder, "map_totals", double(t, openTotals(t, folder)))
		}, "no program that runs uses map totals"},
		"a frozen map": {func(t *testing.T, _ *service, folder string) {
			if err := openTotals(t, folder).Freeze(); err != nil {
				t.Fatal(err)
			}
		}, "map totals is frozen"},
		"a detached link": {func(t *testing.T, _ *service, folder string) {
			if err := pinned(t, folder, "ingress").Detach(); err != nil {
				t.Fatal(err)
			}
		}, "the link of program ingress is detached"},
		"a link of another kind": {func(t *testing.T, _ *service, folder string) {
			swapPin(t, folder, "link_egress", clone(t, pinned(t, folder, "ingress")))
		}, "another kind of link"},
		"another program in a link": {func(t *testing.T, _ *service, folder string) {
			if err := pinned(t, folder, "egress").Update(impostor(t, ebpf.AttachCGroupInetEgress)); err != nil {
				t.Fatal(err)
			}
		}, "uses no pinned map"},
		"links of two groups": {func(t *testing.T, s *service, folder string) {
			l, err := link.AttachCgroup(link.CgroupOptions{Path: s.group, Attach: ebpf.AttachCGroupInetEgress, Program: impostor(t, ebpf.AttachCGroupInetEgress)})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			swapPin(t, folder, "link_egress", l)
		}, "control groups"},
		"something else in the folder": {func(t *testing.T, _ *service, folder string) {
			pinCopy(t, openTotals(t, folder), filepath.Join(folder, "of_somebody_else"))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			opts := Options{Pin: pinFolder(t)}
			left(t, s, opts)
			tt.do(t, s, opts.Pin)
			p := s.watch(t, opts)
			inherited, discarded := p.Inherited()
			var stale *bpf.StaleError
			if tt.why == "" {
				if !inherited || discarded != nil {
					t.Errorf("inherited %t, %v", inherited, discarded)
				}
				return
			}
			if inherited || !errors.As(discarded, &stale) || !strings.Contains(stale.Why, tt.why) {
				t.Errorf("inherited %t, %v; want a StaleError with %q", inherited, discarded, tt.why)
			}
			ask(t, s, 2)
			counts(t, p, 2)
			if err := p.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// pinCopy pins a map under a second name.
func pinCopy(t *testing.T, m *ebpf.Map, path string) {
	t.Helper()
	second, err := m.Clone()
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := second.Pin(path); err != nil {
		t.Fatal(err)
	}
}

// clone opens a link again, as one that is not pinned.
func clone(t *testing.T, l link.Link) link.Link {
	t.Helper()
	info, err := l.Info()
	if err != nil {
		t.Fatal(err)
	}
	second, err := link.NewFromID(info.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	return second
}

func TestAnotherLayoutBeginsAnew(t *testing.T) {
	s := start(t)
	opts := Options{Pin: pinFolder(t)}
	left(t, s, opts)
	opts.Workloads = 9
	p := s.watch(t, opts)
	var stale *bpf.StaleError
	if ok, err := p.Inherited(); ok || !errors.As(err, &stale) {
		t.Errorf("inherited %t, %v", ok, err)
	}
	ask(t, s, 1)
	counts(t, p, 1)
}

func TestAnotherGroupBeginsAnew(t *testing.T) {
	s := start(t)
	opts := Options{Pin: pinFolder(t)}
	left(t, s, opts)
	p, err := Load(Object(), bpf.DigestOf(Object()), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	if err := p.Attach(s.group); err != nil {
		t.Fatal(err)
	}
	var stale *bpf.StaleError
	if ok, err := p.Inherited(); ok || !errors.As(err, &stale) {
		t.Errorf("inherited %t, %v", ok, err)
	}
	ask(t, s, 4)
	counts(t, p, 4) // and not twice: nothing is attached to the parent any more
	dir, err := os.Open(s.parent)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if got, err := link.QueryPrograms(link.QueryOptions{Target: int(dir.Fd()), Attach: ebpf.AttachCGroupInetEgress}); err != nil || len(got.Programs) > 0 {
		t.Errorf("%v is still attached to the other group (%v)", got, err)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestAPinnedProbeCanBeDetachedAndAttachedAgain(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Pin: pinFolder(t)})
	ask(t, s, 2)
	if err := p.Detach(); err != nil {
		t.Fatal(err)
	}
	ask(t, s, 3)
	counts(t, p, 2)
	if err := p.Attach(s.parent); err != nil {
		t.Fatal(err)
	}
	ask(t, s, 1)
	counts(t, p, 3)
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

func TestOnlyABPFFileSystemHoldsPins(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if _, err := Load(Object(), bpf.DigestOf(Object()), Options{Pin: dir}); err == nil || !strings.Contains(err.Error(), "BPF file system") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder was left: %v", err)
	}
}
