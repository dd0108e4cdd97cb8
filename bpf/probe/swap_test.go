package probe

import (
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
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
		l.clients.Go(func() {
			pace := time.NewTicker(clients * time.Second / time.Duration(rate))
			defer pace.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-pace.C:
				}
				_ = c.SetDeadline(time.Now().Add(patience))
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
	return 120
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
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
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
