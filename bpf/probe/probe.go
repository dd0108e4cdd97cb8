// Package probe measures the HTTP/1.x requests that a control group answers,
// with an eBPF program that sees every packet of its sockets: latency from the
// first byte of the request to the first byte of the answer, status, aborted
// requests and retransmits, per workload. Nothing in the service has to change,
// and what waits in a socket's queue counts as it does for the client.
//
// HTTP/2 and TLS are not measured yet; their connections are counted as
// unmeasured. bpf/README.md says how the program works and what it costs.
package probe

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

//go:generate go run ./buckets buckets.h
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -cflags "-O2 -g -Wall -Wextra -Werror -mcpu=v3 -I../include -I/usr/include/x86_64-linux-gnu" -type workload -type counts probe probe.bpf.c

// Object returns the compiled probe that comes with this package.
func Object() []byte { return append([]byte(nil), _ProbeBytes...) }

// Options of a probe; the zero value works.
type Options struct {
	Workloads int // how many workloads can be told apart; 0: 256
}

// Probe is a loaded probe.
type Probe struct {
	digest bpf.Digest
	coll   *ebpf.Collection
	watch  *bpf.Watch
	opts   Options
	boot   time.Time // when the kernel's monotonic clock was zero, by this one's wall clock
}

// attachments is which program goes where.
var attachments = map[string]ebpf.AttachType{
	"ingress":    ebpf.AttachCGroupInetIngress,
	"egress":     ebpf.AttachCGroupInetEgress,
	"connection": ebpf.AttachCGroupSockOps,
}

// LayoutError means that an object is not a probe that this package can read.
type LayoutError struct{ What, Want, Got string }

func (e *LayoutError) Error() string {
	return fmt.Sprintf("not a probe for this version of sluice: %s is %s, expected %s", e.What, e.Got, e.Want)
}

// Load loads an object into the kernel if its digest is the wanted one and its
// maps have the layout that Snapshot reads. Errors, all before anything reaches
// the kernel but the last: *bpf.DigestError, *bpf.FormatError, *LayoutError,
// *bpf.LoadError.
func Load(obj []byte, want bpf.Digest, opts Options) (*Probe, error) {
	spec, err := prepare(obj, want, opts)
	if err != nil {
		return nil, err
	}
	boot, err := bootTime()
	if err != nil {
		return nil, err
	}
	coll, err := bpf.Load(spec, ebpf.CollectionOptions{})
	if err != nil {
		return nil, err
	}
	return &Probe{digest: want, coll: coll, opts: opts, boot: boot}, nil
}

// prepare checks an object and sizes its maps.
func prepare(obj []byte, want bpf.Digest, opts Options) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.Open(obj, want)
	if err != nil {
		return nil, err
	}
	ours, err := loadProbe()
	if err != nil {
		return nil, fmt.Errorf("reading the embedded probe: %w", err)
	}
	if err := sameLayout(spec, ours); err != nil {
		return nil, err
	}
	if n := uint32(opts.Workloads); n > 0 {
		spec.Maps["workloads"].MaxEntries, spec.Maps["slots"].MaxEntries = n, n
		if err := spec.Variables["max_slots"].Set(n); err != nil {
			return nil, fmt.Errorf("sizing the probe: %w", err)
		}
	}
	return spec, nil
}

// sameLayout compares the names and sizes that Snapshot and Attach rely on.
func sameLayout(spec, ours *ebpf.CollectionSpec) error {
	for name, p := range ours.Programs {
		got, ok := spec.Programs[name]
		if !ok {
			return &LayoutError{"program " + name, p.Type.String(), "missing"}
		}
		if got.Type != p.Type {
			return &LayoutError{"program " + name, p.Type.String(), got.Type.String()}
		}
	}
	for _, name := range []string{"conns", "workloads", "slots", "totals"} {
		want := layout(ours.Maps[name])
		got, ok := spec.Maps[name]
		if !ok {
			return &LayoutError{"map " + name, want, "missing"}
		}
		if layout(got) != want {
			return &LayoutError{"map " + name, want, layout(got)}
		}
	}
	if spec.Variables["max_slots"] == nil {
		return &LayoutError{"variable max_slots", "there", "missing"}
	}
	return nil
}

func layout(m *ebpf.MapSpec) string {
	return fmt.Sprintf("%v with keys of %d and values of %d bytes", m.Type, m.KeySize, m.ValueSize)
}

// Attach attaches the probe to a control group: it measures the group and those
// below it.
func (p *Probe) Attach(cgroupDir string) (err error) {
	if p.watch != nil {
		return errors.New("attaching the probe: it is attached already")
	}
	p.watch, err = bpf.Attach(cgroupDir, p.coll, attachments)
	return err
}

// Check asks the kernel whether exactly the programs that were loaded are still
// attached; the error is a *bpf.MismatchError if they are not.
func (p *Probe) Check() error {
	if p.watch == nil {
		return errors.New("checking the probe: it is not attached")
	}
	return p.watch.Check()
}

// Swap replaces the programs by those of another object in one step each; the
// counters go on. Errors are those of Load.
func (p *Probe) Swap(obj []byte, want bpf.Digest) error {
	if p.watch == nil {
		return errors.New("swapping the probe: it is not attached")
	}
	spec, err := prepare(obj, want, p.opts)
	if err != nil {
		return err
	}
	next, err := bpf.Load(spec, ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{
		"conns": p.coll.Maps["conns"], "workloads": p.coll.Maps["workloads"],
		"slots": p.coll.Maps["slots"], "totals": p.coll.Maps["totals"],
	}})
	if err != nil {
		return err
	}
	if err := p.watch.Replace(next); err != nil {
		next.Close()
		return err
	}
	p.coll.Close()
	p.coll, p.digest = next, want
	return nil
}

// Loaded describes what is in the kernel.
func (p *Probe) Loaded() bpf.Loaded {
	l := bpf.Loaded{Digest: p.digest}
	if p.watch != nil {
		l.Programs = p.watch.Programs()
	}
	return l
}

// Digest is that of the object that was loaded.
func (p *Probe) Digest() bpf.Digest { return p.digest }

// Close detaches the probe and frees its maps.
func (p *Probe) Close() error {
	var err error
	if p.watch != nil {
		err = p.watch.Close()
		p.watch = nil
	}
	p.coll.Close()
	return err
}
