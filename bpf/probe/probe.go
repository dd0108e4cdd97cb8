// Package probe measures the requests that a control group answers, HTTP/1.x,
// HTTP/2 in the clear and gRPC, with eBPF programs that see every packet of its
// sockets: latency from the first byte of a request to the first and the last of
// its answer, status, requests without an answer, bytes and retransmits, per
// workload. Nothing in the service has to change, and what waits in a socket's
// queue counts as it does for the client.
//
// What it cannot read, TLS above all, is counted as unmeasured. bpf/README.md
// says how the programs work and what they cost.
package probe

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

//go:generate go run ./buckets buckets.h
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -type workload -type counts -type cost probe probe.bpf.c

// Object returns the compiled probe that comes with this package.
func Object() []byte { return append([]byte(nil), _ProbeBytes...) }

// Options of a probe; the zero value works.
type Options struct {
	Workloads int    // how many workloads can be told apart; 0: 256
	Outgoing  bool   // measure the connections that are opened, too
	Pin       string // folder on a BPF file system in which the probe outlives this process; "": it does not
}

// Probe is a loaded probe. Its methods may be called from several goroutines,
// Close and Release after all others.
type Probe struct {
	opts   Options
	coll   *ebpf.Collection // the programs, and the maps, which stay the same ones over swaps
	reader *reader          // of those maps
	pins   *bpf.Pins        // nil: nothing is pinned

	mu        sync.Mutex // of what follows, and of the programs in coll
	digest    bpf.Digest
	staged    *bpf.Staged
	watch     *bpf.Watch
	since     time.Time
	spec      *ebpf.CollectionSpec // until it is attached
	inherited bool
	discarded error
}

// attachments is which program goes where.
var attachments = map[string]ebpf.AttachType{
	"ingress":    ebpf.AttachCGroupInetIngress,
	"egress":     ebpf.AttachCGroupInetEgress,
	"connection": ebpf.AttachCGroupSockOps,
}

// LayoutError means that an object is not a probe that this package can read.
type LayoutError = bpf.LayoutError

// Load loads an object into the kernel if its digest is the wanted one and its
// maps have the layout that Snapshot reads. What an earlier process has left in
// Options.Pin goes on counting, and its programs are replaced by Attach, if the
// layout is the same; see Inherited.
//
// Errors, all before anything reaches the kernel but the last two:
// *bpf.DigestError, *bpf.FormatError, *LayoutError, *bpf.BusyError,
// *bpf.LoadError.
func Load(obj []byte, want bpf.Digest, opts Options) (_ *Probe, err error) {
	spec, err := prepare(obj, want, opts)
	if err != nil {
		return nil, err
	}
	p := &Probe{digest: want, opts: opts, spec: spec, coll: &ebpf.Collection{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Release())
		}
	}()
	if opts.Pin != "" {
		if err := p.takeOver(); err != nil {
			return nil, err
		}
	}
	load := p.loadFresh
	if p.inherited {
		load = p.loadPrograms
	}
	if err := load(); err != nil {
		return nil, err
	}
	return p, nil
}

// ours is the layout that this package reads.
var ours = sync.OnceValues(loadProbe)

// prepare checks an object and sizes its maps.
func prepare(obj []byte, want bpf.Digest, opts Options) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.Open(obj, want)
	if err != nil {
		return nil, err
	}
	ours, err := ours()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded probe: %w", err)
	}
	if err := bpf.SameLayout(ours, spec); err != nil {
		return nil, err
	}
	return spec, size(spec, opts)
}

// loadFresh makes new maps, fills them, and loads the programs.
func (p *Probe) loadFresh() (err error) {
	if p.coll.Maps, err = bpf.NewMaps(p.spec); err != nil {
		return err
	}
	if err := p.loadPrograms(); err != nil {
		return err
	}
	return prime(p.coll, p.opts)
}

// loadPrograms loads the programs over the maps that are there, and opens these
// for reading.
func (p *Probe) loadPrograms() (err error) {
	if p.staged, err = bpf.Stage(p.spec, p.coll.Maps); err != nil {
		return err
	}
	p.coll.Programs = maps.Clone(p.staged.Programs)
	p.reader.close()
	p.reader, err = newReader(p.coll, p.opts)
	return err
}

// Attach attaches the probe to a control group: it measures the group and those
// below it. A program of somebody else at the same place is a
// *bpf.MismatchError, and nothing is attached.
func (p *Probe) Attach(cgroupDir string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil {
		return errors.New("attaching the probe: it is attached already")
	}
	if err := p.ofAnother(cgroupDir); err != nil {
		return err
	}
	watch, err := bpf.Attach(cgroupDir, p.staged, attachments, p.pins)
	if err != nil {
		return err
	}
	p.watch, p.spec, p.since = watch, nil, time.Now()
	if p.pins != nil {
		p.since = p.pins.Since()
	}
	return nil
}

var errDetached = errors.New("the probe is not attached")

// Check asks the kernel whether exactly the programs that were loaded are still
// attached, over the same maps; the error is a *bpf.MismatchError if they are
// not.
func (p *Probe) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch == nil {
		return fmt.Errorf("checking the probe: %w", errDetached)
	}
	return p.watch.Check()
}

// Loaded describes what is in the kernel.
func (p *Probe) Loaded() bpf.Loaded {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watch != nil {
		return bpf.Loaded{Digest: p.digest, Programs: p.watch.Programs(), Maps: p.staged.Describe()}
	}
	return bpf.Loaded{Digest: p.digest}
}

// Digest is that of the object that was loaded.
func (p *Probe) Digest() bpf.Digest {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.digest
}

// Since is when what is attached began to count, by an earlier process maybe;
// the zero time if the probe is not attached.
func (p *Probe) Since() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since
}

// Detach stops counting. What was counted can still be read.
func (p *Probe) Detach() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.detach((*bpf.Watch).Close)
}

func (p *Probe) detach(how func(*bpf.Watch) error) error {
	if p.watch == nil {
		return nil
	}
	err := how(p.watch)
	p.watch, p.since = nil, time.Time{}
	return err
}

// Close detaches the probe, removes what it has pinned, and frees its maps.
func (p *Probe) Close() error { return errors.Join(p.Detach(), p.Release()) }

// Release lets go of the probe. What is pinned goes on counting until the next
// Load with the same folder takes it over; without pins it is Close.
func (p *Probe) Release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	errs := []error{p.detach((*bpf.Watch).Release)}
	if p.staged != nil {
		p.staged.Close()
	}
	p.reader.close()
	for _, m := range p.coll.Maps {
		errs = append(errs, m.Close())
	}
	p.coll.Maps = nil
	if p.pins != nil {
		errs = append(errs, p.pins.Close())
	}
	return errors.Join(errs...)
}
