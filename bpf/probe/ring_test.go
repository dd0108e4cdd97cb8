package probe

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/sluice-cd/sluice/internal/testenv"
)

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -output-suffix _test -cflags "-O2 -g -Wall -Wextra -Werror -Wno-unused-function -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" ring ringtest.bpf.c

// producer runs one of the test's programs as often as it is asked to.
type producer struct {
	ring, totals *ebpf.Map
	prog         *ebpf.Program
}

func newProducer(t testing.TB, wakes bool, ringBytes uint32) *producer {
	t.Helper()
	testenv.NeedRoot(t)
	spec, err := loadRing()
	if err != nil {
		t.Fatal(err)
	}
	if ringBytes > 0 {
		spec.Maps["exemplars"].MaxEntries = ringBytes
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(coll.Close)
	name := "noted"
	if wakes {
		name = "woken"
	}
	return &producer{ring: coll.Maps["exemplars"], totals: coll.Maps["totals"], prog: coll.Programs[name]}
}

// produce writes n events.
func (p *producer) produce(t testing.TB, n int) {
	for n > 0 {
		burst := min(n, 1<<16)
		if _, err := p.prog.Run(&ebpf.RunOptions{Data: make([]byte, 64), Repeat: uint32(burst)}); err != nil {
			t.Error(err)
			return
		}
		n -= burst
	}
}

// lost is for how many events the ring had no room.
func (p *producer) lost(t testing.TB) (n uint64) {
	t.Helper()
	const untold = 4 // enum total
	if err := p.totals.Lookup(uint32(untold), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// pace produces events for a time, in bursts of half a millisecond, at a rate for
// each second if it can. It returns how many, and the rate that it reached.
func (p *producer) pace(t testing.TB, rate float64, during time.Duration) (n int, reached float64) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := time.Now()
	for at := time.Duration(0); at < during; at = time.Since(begin) {
		due := int(at.Seconds()*rate) - n
		p.produce(t, due)
		n += due
		time.Sleep(500 * time.Microsecond)
	}
	return n, float64(n) / time.Since(begin).Seconds()
}

// consumer reads a ring until it is closed and says how many events it has read.
type consumer func(t testing.TB, p *producer) (stop func() int)

// polling reads as the daemon does, but every 200 µs.
func polling(t testing.TB, p *producer) func() int {
	t.Helper()
	ring, err := ringbuf.NewReader(p.ring)
	if err != nil {
		t.Fatal(err)
	}
	ring.SetDeadline(time.Now())
	probe := &Probe{reader: &reader{ring: ring, owners: map[uint32]Workload{1: {}}}}
	quit, read := make(chan struct{}), make(chan int)
	go func() {
		n, last := 0, false
		for {
			list, err := probe.Exemplars()
			if err != nil {
				t.Error(err)
			}
			if n += len(list); last && len(list) == 0 {
				read <- n
				return
			}
			select {
			case <-quit:
				last = true
			case <-time.After(200 * time.Microsecond):
			}
		}
	}()
	return func() int {
		close(quit)
		defer ring.Close()
		return <-read
	}
}

// blocking waits for the kernel to wake it.
func blocking(t testing.TB, p *producer) func() int {
	t.Helper()
	ring, err := ringbuf.NewReader(p.ring)
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan int)
	go func() {
		var record ringbuf.Record
		for n := 0; ; n++ {
			if err := ring.ReadInto(&record); err != nil {
				if !errors.Is(err, ringbuf.ErrFlushed) {
					t.Error(err)
				}
				read <- n
				return
			}
		}
	}()
	return func() int {
		_ = ring.Flush() // it reads what is there, and ends
		defer ring.Close()
		return <-read
	}
}

// transfer produces events at a rate and returns the rate that was reached, and how
// many were lost.
func transfer(b *testing.B, p *producer, read consumer, rate float64) (reached float64, lost int) {
	b.Helper()
	stop := read(b, p)
	sent, reached := p.pace(b, rate, 200*time.Millisecond)
	got := stop()
	// More were sent where a signal interrupted a run: it is begun again.
	if lost = int(p.lost(b)); got+lost < sent {
		b.Fatalf("of %d events %d were read and %d lost", sent, got, lost)
	}
	return reached, lost
}

// BenchmarkRing finds how many events a second go from the kernel to a reader in
// Go without loss: it raises the rate until some are lost, three times in a row, or
// the producer can no more. The aim is 1 000 000. The producer has one processor
// and the reader another.
func BenchmarkRing(b *testing.B) {
	for name, tt := range map[string]struct {
		read  consumer
		wakes bool
		bytes uint32 // 0: as the probe has it
	}{
		"polled by Exemplars":       {read: polling},
		"polled by Exemplars, 4 MB": {read: polling, bytes: 4 << 20},
		"woken":                     {read: blocking, wakes: true},
		"woken, 4 MB":               {read: blocking, wakes: true, bytes: 4 << 20},
	} {
		b.Run(name, func(b *testing.B) {
			best := 0.0
			for b.Loop() {
				for rate := 500_000.0; ; rate *= 1.25 {
					reached, lost := 0.0, 1
					for try := 0; lost > 0 && try < 3; try++ { // others use the processors, too
						reached, lost = transfer(b, newProducer(b, tt.wakes, tt.bytes), tt.read, rate)
					}
					if lost == 0 {
						best = max(best, reached)
					}
					if lost > 0 || reached < 0.8*rate {
						break
					}
				}
			}
			b.ReportMetric(best, "events/s-without-loss")
			b.ReportMetric(0, "ns/op") // of a search: says nothing
		})
	}
}

func TestEveryExemplarIsReadOrReportedAsLost(t *testing.T) {
	for name, tt := range map[string]struct {
		read  consumer
		wakes bool
	}{
		"polled": {polling, false},
		"woken":  {blocking, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProducer(t, tt.wakes, 0)
			stop := tt.read(t, p)
			const sent = 300_000 // at once: more than anybody reads
			p.produce(t, sent)
			if read, lost := stop(), int(p.lost(t)); read+lost != sent || read < 4000 {
				t.Errorf("of %d events %d were read and %d lost", sent, read, lost)
			}
		})
	}
}
