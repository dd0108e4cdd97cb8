package probe

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestLoadedDescribesProgramsAndMaps(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	first := p.Loaded()
	if len(first.Programs) != len(attachments) || len(first.Maps) < 4 {
		t.Fatalf("%+v", first)
	}
	spec, err := bpf.Open(Object(), p.Digest())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range first.Maps {
		if m.ID == 0 || m.Type == "" || m.ValueSize == 0 && m.MaxEntries == 0 || m.Frozen != strings.HasPrefix(m.Name, ".rodata") {
			t.Errorf("%+v", m)
		}
	}
	for _, prog := range first.Programs {
		// The kernel's tag is a digest of what it was given, too.
		given := spec.Programs[prog.Name].Instructions
		if err := given.Marshal(io.Discard, spec.ByteOrder); err != nil { // resolves jumps and calls
			t.Fatal(err)
		}
		if same, err := given.HasTag(prog.Tag, spec.ByteOrder); err != nil || !same {
			t.Errorf("%s: the tag %s is not that of the instructions (%v)", prog.Name, prog.Tag, err)
		}
	}
	if err := p.Swap(other(t), bpf.DigestOf(other(t))); err != nil {
		t.Fatal(err)
	}
	second := p.Loaded()
	for i, was := range first.Programs {
		is := second.Programs[i]
		if is.ID == was.ID || is.Tag != was.Tag || is.LoadedDigest != was.LoadedDigest || is.LinkID != was.LinkID {
			t.Errorf("after a swap by the same code: %+v, was %+v", is, was)
		}
		if is.XlatedDigest == "" || is.LoadedDigest == "" || is.XlatedDigest == is.LoadedDigest {
			t.Errorf("digests: %+v", is)
		}
	}
	for i, was := range first.Maps {
		if is := second.Maps[i]; !bpf.IsData(was.Name) && is != was {
			t.Errorf("map %+v, was %+v", is, was)
		}
	}
}

// compiled is the probe, compiled with some words of its source changed: pairs
// of old and new.
func compiled(t *testing.T, words ...string) []byte {
	t.Helper()
	testenv.Need(t, "clang-19")
	dir := t.TempDir()
	files, err := filepath.Glob("*.[ch]")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.NewReplacer(words...).Replace(string(raw))
		if err := os.WriteFile(filepath.Join(dir, file), []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	include, err := filepath.Abs("../include")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("clang-19", "-target", "bpfel", "-O2", "-g", "-mcpu=v3", "-I"+include, "-I/usr/include/x86_64-linux-gnu", "-idirafter", "/usr/include/aarch64-linux-gnu", "-c", "probe.bpf.c", "-o", "probe.o")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	obj, err := os.ReadFile(filepath.Join(dir, "probe.o"))
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

func TestAnObjectOfAnotherLayoutIsNeitherLoadedNorSwappedIn(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	for name, tt := range map[string]struct {
		words []string
		what  string // empty: the same layout
	}{
		"compiled again":           {nil, ""},
		"two fields change places": {[]string{"aborted", "retransmits", "retransmits", "aborted"}, "value of map slots"},
		"a field has another name": {[]string{"aborted", "given_up"}, "value of map slots"},
		"a map has another name":   {[]string{"totals", "sums"}, "map"},
	} {
		obj := compiled(t, tt.words...)
		fresh, err := Load(obj, bpf.DigestOf(obj), Options{})
		swap := p.Swap(obj, bpf.DigestOf(obj))
		if tt.what == "" {
			if err != nil || swap != nil {
				t.Errorf("%s: %v, %v", name, err, swap)
			} else if err := fresh.Close(); err != nil {
				t.Error(err)
			}
			continue
		}
		for _, err := range []error{err, swap} {
			var layout *LayoutError
			if !errors.As(err, &layout) || !strings.Contains(layout.What, tt.what) {
				t.Errorf("%s: %v, want a LayoutError on the %s", name, err, tt.what)
			}
		}
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// TestTheCostIsWhatTheKernelCounts compares the estimate with the kernel's own
// statistics, over a swap, too.
func TestTheCostIsWhatTheKernelCounts(t *testing.T) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	s := start(t)
	p := s.watch(t, Options{})
	c := dial(t, s.v4)
	var want Cost
	for range 2 {
		for range 4000 {
			c.send(get("/"))
			c.answers(1, "GET")
		}
		want = want.plus(t, p)
		if err := p.Swap(Object(), p.Digest()); err != nil {
			t.Fatal(err)
		}
	}
	got, err := p.Cost()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("estimated: %v in %d runs; the kernel counts %v in %d", got.Time, got.Runs, want.Time, want.Runs)
	// More than 250 runs were measured: 30 % are nearly five standard deviations.
	if runs := float64(got.Runs) / float64(want.Runs); runs < 0.7 || runs > 1.3 {
		t.Errorf("%d runs, the kernel counts %d", got.Runs, want.Runs)
	}
	if each, kernel := got.Time/time.Duration(got.Runs), want.Time/time.Duration(want.Runs); each < kernel/3 || each > 3*kernel {
		t.Errorf("%v a run, the kernel says %v", each, kernel)
	}
}

// plus adds what the kernel counts for the programs of a probe.
func (c Cost) plus(t *testing.T, p *Probe) Cost {
	t.Helper()
	for _, prog := range p.coll.Programs {
		stats, err := prog.Stats()
		if err != nil {
			t.Fatal(err)
		}
		c.Runs += stats.RunCount
		c.Time += stats.Runtime
	}
	return c
}
