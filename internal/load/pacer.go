package load

import (
	"context"
	"math"
	"sync/atomic"
	"time"
)

// maxLag is how far behind its plan the generator catches up. What is due longer is given up and counted, because a
// burst of old requests would be a load that nobody asked for.
const maxLag = 250 * time.Millisecond

// pacer tells vegeta when to send. It does the waiting itself, because vegeta's own sleep cannot be interrupted.
type pacer struct {
	ctx     context.Context
	rate    float64
	limit   uint64 // requests of the whole run
	most    int64  // requests under way at which vegeta stops sending
	tally   *tally
	skipped uint64
	timer   *time.Timer
	start   time.Time
	stop    atomic.Int64  // when sending ended, after start
	done    chan struct{} // closed at the end of the plan
}

func newPacer(ctx context.Context, o Options, t *tally) *pacer {
	p := &pacer{ctx: ctx, rate: o.Rate, limit: math.MaxUint64, most: int64(o.Connections), tally: t, start: time.Now(), done: make(chan struct{})}
	if o.Duration > 0 {
		p.limit = uint64(math.Ceil(o.Rate * o.Duration.Seconds()))
	}
	p.timer = time.NewTimer(0)
	return p
}

// Pace blocks until the next request is due. elapsed is the time since the start, sent the number of requests handed
// out so far. It is called by one goroutine only.
func (p *pacer) Pace(elapsed time.Duration, sent uint64) (time.Duration, bool) {
	next := p.catchUp(elapsed, sent)
	if next >= p.limit || p.ctx.Err() != nil {
		close(p.done)
		return 0, true
	}
	if wait := p.due(next) - elapsed; wait > 0 {
		p.timer.Reset(wait)
		select {
		case <-p.timer.C:
		case <-p.ctx.Done():
			close(p.done)
			return 0, true
		}
	}
	return 0, false
}

// catchUp returns the number of the next request, after giving up those that are due for too long.
func (p *pacer) catchUp(elapsed time.Duration, sent uint64) uint64 {
	next := sent + p.skipped
	lag := elapsed - p.due(next)
	if lag <= 0 || next >= p.limit {
		return next
	}
	p.tally.lagged(lag)
	if lag < maxLag {
		return next
	}
	gone := min(uint64(lag.Seconds()*p.rate), p.limit-next)
	p.skipped += gone
	p.tally.skip(gone, p.tally.peak() >= p.most)
	return next + gone
}

// end notes that sending is over.
func (p *pacer) end() { p.stop.Store(int64(time.Since(p.start))) }

// ended returns when sending was over, from the start; zero if it is not.
func (p *pacer) ended() time.Duration { return time.Duration(p.stop.Load()) }

// Rate is the planned rate, which vegeta wants to know for its plots.
func (p *pacer) Rate(time.Duration) float64 { return p.rate }

// due returns when request n is due, from the start.
func (p *pacer) due(n uint64) time.Duration {
	return time.Duration(float64(n) / p.rate * float64(time.Second))
}

// watchdog measures how late a timer fires: pauses of this process or machine, which look like a slow server.
func watchdog(ctx context.Context, t *tally) {
	const period = 20 * time.Millisecond
	timer := time.NewTimer(period)
	defer timer.Stop()
	for {
		start := time.Now()
		timer.Reset(period)
		select {
		case <-timer.C:
			t.stalled(time.Since(start) - period)
		case <-ctx.Done():
			return
		}
	}
}
