// Package agent is the life of a sluice-probe: it loads a verified object,
// proves that it counts, gives up its privileges, and from then on reads, checks
// and tells, once a second.
//
// What it promises: an object whose signature was not verified never reaches the
// kernel; what was replaced in the kernel is seen at the next look, told, and put
// right; an object after whose swap TCP sends much more again than before is
// rolled back. What it leaves to others: counting (bpf/probe), the formats
// (wire, export), who signs (bundle), what is good for a rollout (gate).
package agent

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/export"
	"github.com/sluice-cd/sluice/internal/objects"
)

// Object is an eBPF object that was verified.
type Object struct {
	Bytes  []byte
	Bundle []byte // its signature; nil if something else vouched for it
	Origin string // for people: where it came from and what vouched for it
}

// Digest is that of the object.
func (o Object) Digest() bpf.Digest { return bpf.DigestOf(o.Bytes) }

// Config says what to measure, how far to trust whom, and whom to tell. Cgroup,
// Object and Log are required.
type Config struct {
	Cgroup    string // folder of the control group; those below it are measured, too
	Pin       string // folder on a BPF file system in which counters outlive a killed daemon; "": they do not
	Object    Object
	Keys      []*ecdsa.PublicKey // sign objects that come later; none: no object is taken
	Workloads int                // that can be told apart; 0: the probe's default
	Node      string             // "": the host's name

	Interval  time.Duration // between two looks; 0: a second
	Probation time.Duration // after a swap, until the new object counts as good; 0: a minute
	Budget    float64       // cores that the daemon and its programs may take; 0: no limit

	Listen []string // "unix:PATH" or "tcp:HOST:PORT"
	TLS    TLS      // of the TCP listeners

	SocketGroup int   // may connect to Unix sockets, besides root; 0: nobody else
	Allow       Allow // who may write
	Pprof       bool  // serve /debug/pprof

	OTLP export.OTLPOptions // without Endpoint, nothing is sent

	History *objects.History // nil: none is kept
	State   []string         // folders to which History writes
	Read    []string         // files that History reads

	Keep             bool // leave the pinned counters counting at the end
	UnsafeUnconfined bool // keep all privileges: for debugging
	Log              *slog.Logger
}

// Agent is a running probe and everything that is told about it.
type Agent struct {
	cfg   Config
	log   *slog.Logger
	cost  meter
	notes notes
	known known

	mu        sync.Mutex // the probe, and what follows
	probe     *probe.Probe
	current   Object
	good      Object                // the last that has counted well: what a repair puts in place
	spare     spare                 // the same, staged
	trial     *trial                // nil: current is good
	bad       map[bpf.Digest]string // why objects were rolled back by this daemon
	swaps     uint64
	mismatch  mismatches
	exemplars exemplars
	traffic   window
	gone      gone
	forgotten Segments  // what workloads had sent that are forgotten
	swept     time.Time // when groups were listed last
	tested    bool

	overBudget bool // by the last look

	latest atomic.Pointer[Reading]
	broken atomic.Pointer[string] // why the last look told nothing; nil: it did
}

// Run measures until the context ends. The error is nil if it was asked to end.
func Run(ctx context.Context, cfg Config) error {
	a := newAgent(cfg)
	listeners, err := openListeners(cfg) // before anything reaches the kernel: it may not go
	if err != nil {
		return err
	}
	defer closeAll(listeners)
	if err := a.load(); err != nil {
		return err
	}
	err = a.serve(ctx, listeners)
	return errors.Join(err, a.unload())
}

func newAgent(cfg Config) *Agent {
	host, _ := os.Hostname() // only a name for people
	cfg.Node = cmp.Or(cfg.Node, host)
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	cfg.Probation = cmp.Or(cfg.Probation, time.Minute)
	return &Agent{cfg: cfg, log: cfg.Log, current: cfg.Object, good: cfg.Object, bad: map[bpf.Digest]string{}, notes: newNotes(), gone: gone{}}
}

// load puts an object into the kernel: see resume.
func (a *Agent) load() error {
	if last := a.resume(); last != nil {
		err := a.attach(*last)
		if err == nil {
			return nil
		}
		a.log.Warn("the object that was loaded last is not taken", "object", last.Digest(), "err", err)
	}
	return a.attach(a.cfg.Object)
}

// attach puts an object into the kernel and proves that it counts.
func (a *Agent) attach(o Object) (err error) {
	a.current, a.good = o, o
	begin := time.Now()
	a.probe, err = probe.Load(a.current.Bytes, a.current.Digest(), probe.Options{Workloads: a.cfg.Workloads, Outgoing: true, Pin: a.cfg.Pin})
	if err != nil {
		return fmt.Errorf("loading the probe (%s): %w", a.current.Origin, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.probe.Close())
		}
	}()
	if err := a.probe.Attach(a.cfg.Cgroup); err != nil {
		return fmt.Errorf("attaching the probe to %s: %w", a.cfg.Cgroup, err)
	}
	inherited, discarded := a.probe.Inherited()
	if discarded != nil {
		a.log.Warn("counters of an earlier daemon are gone", "err", discarded)
	}
	a.log.Info("attached", "object", a.current.Digest(), "origin", a.current.Origin, "cgroup", a.cfg.Cgroup,
		"inherited", inherited, "took", time.Since(begin).Round(time.Millisecond))
	if err := a.selfTest(); err != nil {
		if inherited { // what was counted before is not to blame
			return errors.Join(err, a.probe.Release())
		}
		return err
	}
	sweepSelfTests(a.cfg.Cgroup)
	a.tested = true
	return nil
}

// serve gives up privileges, and answers until the context ends or a listener
// fails.
func (a *Agent) serve(ctx context.Context, listeners []*listener) error {
	if err := a.confine(); err != nil {
		return err
	}
	if _, err := a.Read(0); err != nil {
		return err
	}
	a.note(storeObject(a.current), markLoaded(a.current))
	if _, bad := a.bad[a.current.Digest()]; !bad { // a self-test does not see what it was rolled back for
		a.praise(a.current, "self-test passed")
	}
	otlp, err := a.otlp(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	server := newServer(a.handler(), slog.NewLogLogger(a.log.Handler(), slog.LevelDebug))
	for _, l := range listeners {
		a.log.Info("listening", "on", l.where())
		all.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				cancel(fmt.Errorf("serving %s: %w", l.name, err))
			}
		})
	}
	if otlp != nil {
		all.Go(func() { otlp.Run(ctx) })
	}
	all.Go(func() { a.watch(ctx) })
	all.Go(func() { a.writeNotes(ctx) })
	<-ctx.Done()
	a.log.Info("ending", "keep", a.cfg.Keep)
	stop(server)
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// unload ends the measurement, or leaves it to the next daemon.
func (a *Agent) unload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.spare.close()
	if a.cfg.Keep && a.cfg.Pin != "" {
		a.log.Info("left counting", "pin", a.cfg.Pin)
		return a.probe.Release()
	}
	if err := a.probe.Close(); err != nil {
		return fmt.Errorf("detaching the probe: %w", err)
	}
	a.log.Info("detached")
	return nil
}

// watch looks once an interval.
func (a *Agent) watch(ctx context.Context) {
	tick := time.NewTicker(a.cfg.Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = a.Read(a.cfg.Interval / 2) // what is wrong was logged, and /readyz says it
			a.prepare()
		}
	}
}
