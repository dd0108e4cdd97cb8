package probe

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// load is clients that send requests at a fixed rate, as long as each is
// answered in time.
type load struct {
	sent    atomic.Uint64
	stop    chan struct{}
	clients sync.WaitGroup
}

// offer begins to send a service a number of requests a second.
func offer(t testing.TB, addr string, rate int) *load {
	t.Helper()
	const clients = 16
	l := &load{stop: make(chan struct{})}
	for range clients {
		c := dial(t, addr)
		_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
		l.clients.Go(func() {
			pace := time.NewTicker(clients * time.Second / time.Duration(rate))
			defer pace.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-pace.C:
				}
				c.send(get("/"))
				c.answers(1, "GET")
				l.sent.Add(1)
			}
		})
	}
	return l
}

// end waits for the last answers and returns how many there were.
func (l *load) end() uint64 {
	close(l.stop)
	l.clients.Wait()
	return l.sent.Load()
}

// swaps is how often objects are swapped under load.
func swaps() int {
	if testing.Short() {
		return 50
	}
	return 300
}

func TestSwapUnderLoadCountsEveryRequestOnce(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	l := offer(t, s.v4, 2000)
	begin := time.Now()
	objects := [2][]byte{other(t), Object()}
	for i := range swaps() {
		obj := objects[i%2]
		if err := p.Swap(obj, bpf.DigestOf(obj)); err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begin)
	sent := l.end()
	got, snap := total(t, p)
	t.Logf("%d requests (%.0f a second), %d swaps in %v", sent, float64(sent)/took.Seconds(), swaps(), took)
	if got.Requests != sent || snap.Loss.Requests != 0 || got.Aborted != 0 {
		t.Errorf("counted %d, %d lost, %d aborted; sent %d", got.Requests, snap.Loss.Requests, got.Aborted, sent)
	}
}

func TestCommitUnderLoadCountsEveryRequestOnce(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	staged := make([]*Staged, 40)
	for i := range staged {
		var err error
		if staged[i], err = p.Stage(Object(), p.Digest()); err != nil {
			t.Fatal(err)
		}
	}
	l := offer(t, s.v4, 2000)
	for _, next := range staged { // all at once: every moment of a swap meets a request
		if err := next.Commit(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	sent := l.end()
	if got, _ := total(t, p); got.Requests != sent {
		t.Errorf("counted %d, sent %d", got.Requests, sent)
	}
}

func TestWhatIsStagedAndGivenUpLeavesNothing(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	before := p.Loaded()
	open := openFiles(t)
	var ids []ebpf.ProgramID
	for range 3 {
		staged, err := p.Stage(other(t), bpf.DigestOf(other(t)))
		if err != nil {
			t.Fatal(err)
		}
		for _, prog := range staged.staged.Programs {
			info, err := prog.Info()
			if err != nil {
				t.Fatal(err)
			}
			id, _ := info.ID()
			ids = append(ids, id)
		}
		if err := staged.Close(); err != nil {
			t.Fatal(err)
		}
		if err := staged.Commit(); err == nil {
			t.Error("what was given up was committed")
		}
	}
	if got := openFiles(t); got != open {
		t.Errorf("%d files are open, %d were", got, open)
	}
	for _, id := range ids {
		gone(t, id)
	}
	if !slices.Equal(before.Programs, p.Loaded().Programs) || before.Digest != p.Digest() {
		t.Errorf("loaded is %+v, was %+v", p.Loaded(), before)
	}
	if err := p.Check(); err != nil {
		t.Error(err)
	}
}

// openFiles is how many files this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// gone waits until the kernel has no program of that id any more.
func gone(t *testing.T, id ebpf.ProgramID) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 5*time.Second; time.Sleep(10 * time.Millisecond) {
		prog, err := ebpf.NewProgramFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			return
		}
		_ = prog.Close()
	}
	t.Errorf("program %d is still there", id)
}

func TestStagedObjectsAreCommittedInAnyOrderAndOnce(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{})
	first, err := p.Stage(other(t), bpf.DigestOf(other(t)))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if err := p.Swap(Object(), bpf.DigestOf(Object())); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	if p.Digest() != bpf.DigestOf(other(t)) {
		t.Errorf("the digest is %s", p.Digest())
	}
	if err := first.Commit(); err == nil {
		t.Error("it was committed twice")
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Check(); err != nil {
		t.Errorf("closing what was committed: %v", err)
	}
	second, err := p.Stage(Object(), bpf.DigestOf(Object()))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := p.Detach(); err != nil {
		t.Fatal(err)
	}
	if err := second.Commit(); !errors.Is(err, errDetached) {
		t.Errorf("committing to a detached probe: %v", err)
	}
}

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
	cmd := exec.Command("clang-19", "-target", "bpfel", "-O2", "-g", "-mcpu=v3", "-I"+include, "-I/usr/include/x86_64-linux-gnu", "-c", "probe.bpf.c", "-o", "probe.o")
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

func TestCostGoesOnOverSwaps(t *testing.T) {
	s := start(t)
	p := s.watch(t, Options{Stats: true})
	c := dial(t, s.v4)
	var last Cost
	for range 3 {
		for range 20 {
			c.send(get("/"))
			c.answers(1, "GET")
		}
		cost, err := p.Cost()
		if err != nil {
			t.Fatal(err)
		}
		// A request and its answer are two packets at least.
		if cost.Runs < last.Runs+40 || cost.Time <= last.Time {
			t.Errorf("the cost is %+v, was %+v", cost, last)
		}
		last = cost
		if err := p.Swap(Object(), p.Digest()); err != nil {
			t.Fatal(err)
		}
		if after, err := p.Cost(); err != nil || after.Runs < last.Runs || after.Time < last.Time {
			t.Errorf("after a swap the cost is %+v, was %+v (%v)", after, last, err)
		}
	}
	if _, err := start(t).watch(t, Options{}).Cost(); !errors.Is(err, ErrNoStats) {
		t.Errorf("without statistics: %v", err)
	}
}

// reportMedian runs f and reports its median.
func reportMedian(b *testing.B, f func() time.Duration) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		took = append(took, f())
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e6, "ms(median)")
	b.ReportMetric(float64(took[len(took)*95/100].Nanoseconds())/1e6, "ms(p95)")
}

func BenchmarkSwapUnderLoad(b *testing.B) {
	s := start(b)
	p := s.watch(b, Options{})
	l := offer(b, s.v4, 2000)
	reportMedian(b, func() time.Duration {
		begin := time.Now()
		if err := p.Swap(Object(), p.Digest()); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	})
	l.end()
}

func BenchmarkCommitUnderLoad(b *testing.B) {
	s := start(b)
	p := s.watch(b, Options{})
	l := offer(b, s.v4, 2000)
	reportMedian(b, func() time.Duration {
		staged, err := p.Stage(Object(), p.Digest())
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		if err := staged.Commit(); err != nil {
			b.Fatal(err)
		}
		return time.Since(begin)
	})
	l.end()
}

func BenchmarkCheckPinned(b *testing.B) {
	p := start(b).watch(b, Options{Pin: pinFolder(b)})
	for b.Loop() {
		if err := p.Check(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeepCheck(b *testing.B) {
	p := start(b).watch(b, Options{})
	for b.Loop() {
		if err := p.watch.DeepCheck(); err != nil {
			b.Fatal(err)
		}
	}
}
