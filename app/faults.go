package main

import (
	"context"
	"errors"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// faults says how slow and how wrong the work endpoints are. The zero value is
// instant and right.
type faults struct {
	// Latency is the median of a lognormal distribution and LatencySigma the
	// standard deviation of its logarithm: the base latency of every request.
	Latency      time.Duration
	LatencySigma float64
	// ExtraLatency is added to the base latency.
	ExtraLatency time.Duration
	// TailRatio of the requests take TailFactor times as long.
	TailRatio, TailFactor float64
	// ErrorRatio of the requests fail, after their latency.
	ErrorRatio float64
	// LeakBytes of memory are kept for ever by each request.
	LeakBytes int
	// CPU is the processor time that each request burns.
	CPU time.Duration
}

// maxDelay bounds one request, however long the tail.
const maxDelay = time.Minute

// errInjected is the answer of a request that was chosen to fail.
var errInjected = errors.New("injected fault")

// draw decides about one request: how long it sleeps and whether it fails. It
// does nothing else, so the same r gives the same requests.
func (f faults) draw(r *rand.Rand) (delay time.Duration, fail bool) {
	d := float64(f.Latency)
	if f.LatencySigma > 0 {
		d *= math.Exp(f.LatencySigma * r.NormFloat64())
	}
	d += float64(f.ExtraLatency)
	if f.TailRatio > 0 && r.Float64() < f.TailRatio {
		d *= f.TailFactor
	}
	return time.Duration(min(d, float64(maxDelay))), f.ErrorRatio > 0 && r.Float64() < f.ErrorRatio
}

// injector applies faults to requests. It is safe for concurrent use.
type injector struct {
	faults faults
	rand   *rand.Rand
	rounds int // hash rounds that burn faults.CPU

	mu     sync.Mutex
	leak   [][]byte
	leaked atomic.Int64 // bytes
}

// newInjector returns an injector that draws from r; with a CPU burn it first
// measures for some milliseconds how much work that is here.
func newInjector(f faults, r *rand.Rand) *injector {
	in := &injector{faults: f, rand: r}
	if f.CPU > 0 {
		in.rounds = max(1, int(f.CPU.Seconds()*hashRate()))
	}
	return in
}

// sharedRand returns a generator that any number of goroutines may use: it has
// no state of its own but draws from the runtime's.
func sharedRand() *rand.Rand { return rand.New(runtimeSource{}) }

type runtimeSource struct{}

func (runtimeSource) Uint64() uint64 { return rand.Uint64() }

// suffer lets one request go through its faults. It returns errInjected when
// the request is to fail, and the error of ctx when nobody waits any more.
func (in *injector) suffer(ctx context.Context) error {
	delay, fail := in.faults.draw(in.rand)
	if in.faults.LeakBytes > 0 {
		in.lose(in.faults.LeakBytes)
	}
	burn(in.rounds)
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if fail {
		return errInjected
	}
	return nil
}

func (in *injector) lose(n int) {
	block := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		block[i] = 1 // a page that nobody touches is not resident
	}
	in.mu.Lock()
	in.leak = append(in.leak, block)
	in.mu.Unlock()
	in.leaked.Add(int64(n))
}

var hashSeed = maphash.MakeSeed()

// burn does a fixed amount of work, rather than spinning until some instant: a
// request on a busy machine then takes longer, as real work does.
func burn(rounds int) {
	var block [256]byte
	for i := range rounds {
		block[i%len(block)] = byte(maphash.Bytes(hashSeed, block[:]))
	}
	runtime.KeepAlive(block)
}

// hashRate measures rounds of burn per second: the best of some short runs,
// because whatever else the machine does can only make a run look slower.
func hashRate() float64 {
	const rounds = 20_000
	best := math.Inf(1)
	for range 10 {
		start := time.Now()
		burn(rounds)
		best = min(best, max(time.Since(start).Seconds(), 1e-6))
	}
	return rounds / best
}
