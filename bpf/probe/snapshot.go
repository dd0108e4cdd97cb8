package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// reader reads what the programs count.
type reader struct {
	mu                sync.Mutex
	workloads, totals *ebpf.Map    // the probe's
	slots             *ebpf.Memory // shards of a slot are neighbours
	ring              *ringbuf.Reader
	shards            int
	boot              time.Time           // when the kernel's monotonic clock was zero, by the wall clock
	owners            map[uint32]Workload // by ticket, as of the last listing
}

func newReader(coll *ebpf.Collection, opts Options) (r *reader, err error) {
	r = &reader{workloads: coll.Maps["workloads"], totals: coll.Maps["totals"], shards: 1 << opts.shardBits()}
	if r.boot, err = bootTime(); err != nil {
		return nil, err
	}
	if r.slots, err = coll.Maps["slots"].Memory(); err != nil {
		return nil, fmt.Errorf("mapping the slots of the probe: %w", err)
	}
	if r.ring, err = ringbuf.NewReader(coll.Maps["exemplars"]); err != nil {
		return nil, fmt.Errorf("opening the exemplars of the probe: %w", err)
	}
	r.ring.SetDeadline(time.Now()) // never waits
	return r, nil
}

func (r *reader) close() {
	if r != nil {
		_ = r.ring.Close()
	}
}

// Snapshot reads all counters.
func (p *Probe) Snapshot() (Snapshot, error) {
	r := p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Snapshot{At: time.Now()}
	boot, err := bootTime()
	if err != nil {
		return s, err
	}
	if d := boot.Sub(r.boot); d.Abs() > time.Second {
		r.boot = boot // the wall clock was set, or the machine slept
	}
	if s.Loss, err = r.loss(); err != nil {
		return s, err
	}
	if err := r.list(); err != nil {
		return s, err
	}
	s.Workloads = make(map[Workload]Counts, len(r.owners))
	for ticket, w := range r.owners {
		c, err := r.counts(ticket, w)
		if err != nil {
			return s, err
		}
		s.Workloads[w] = c
	}
	return s, nil
}

// loss reads the map totals, whose indices are those of enum total.
func (r *reader) loss() (l Loss, err error) {
	for i, n := range []*uint64{&l.Requests, &l.Unmeasured, &l.Desynced, &l.Older, &l.Exemplars} {
		if err := r.totals.Lookup(uint32(i), n); err != nil {
			return l, fmt.Errorf("reading the probe's totals: %w", err)
		}
	}
	return l, nil
}

// listing is how many workloads are asked for at once.
const listing = 256

// list reads who has which ticket.
func (r *reader) list() error {
	r.owners = make(map[uint32]Workload, len(r.owners))
	var (
		cursor  ebpf.MapBatchCursor
		keys    [listing]probeWorkload
		tickets [listing]uint32
	)
	for {
		n, err := r.workloads.BatchLookup(&cursor, keys[:], tickets[:], nil)
		for i, ticket := range tickets[:n] {
			r.owners[ticket] = workloadOf(keys[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil // that was all
		}
		if err != nil {
			return fmt.Errorf("listing the probe's workloads: %w", err)
		}
	}
}

// workloadOf reads a key of the map workloads.
func workloadOf(k probeWorkload) Workload {
	w := Workload{Cgroup: k.Cgroup}
	if k.Port == 0 {
		return w
	}
	var raw [16]byte
	for i, word := range k.Addr { // network order in memory, whatever the machine
		raw[4*i], raw[4*i+1], raw[4*i+2], raw[4*i+3] = byte(word), byte(word>>8), byte(word>>16), byte(word>>24)
	}
	w.Addr = netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), uint16(k.Port))
	return w
}

// keyOf is the key of a workload.
func keyOf(w Workload) probeWorkload {
	k := probeWorkload{Cgroup: w.Cgroup, Port: uint32(w.Addr.Port())}
	if w.Outgoing() {
		return k
	}
	raw := w.Addr.Addr().As16()
	for i := range k.Addr {
		k.Addr[i] = uint32(raw[4*i]) | uint32(raw[4*i+1])<<8 | uint32(raw[4*i+2])<<16 | uint32(raw[4*i+3])<<24
	}
	return k
}

// counts adds up the shards of a slot.
func (r *reader) counts(ticket uint32, w Workload) (Counts, error) {
	var c Counts
	var first, firstError uint64
	for shard := range r.shards {
		var n probeCounts
		raw := unsafe.Slice((*byte)(unsafe.Pointer(&n)), unsafe.Sizeof(n))
		at := (int64(ticket&0xffff-1)*int64(r.shards) + int64(shard)) * int64(len(raw))
		if _, err := r.slots.ReadAt(raw, at); err != nil {
			return c, fmt.Errorf("reading the slot of %v: %w", w, err)
		}
		c.add(&n)
		first, firstError = least(first, n.FirstNs), least(firstError, n.FirstErrorNs)
	}
	c.First, c.FirstError = r.wall(first), r.wall(firstError)
	if w.Outgoing() {
		c.Requests, c.Begun = c.Connections, c.Connections+c.Aborted
	}
	return c, nil
}

// add adds what one shard counted.
func (c *Counts) add(n *probeCounts) {
	c.Begun += n.Begun
	c.Aborted += n.Aborted
	c.Truncated += n.Truncated
	c.Connections += n.Connections
	c.Resets += n.Resets
	c.Segments += n.Segments
	c.Retransmits += n.Retransmits
	c.BytesIn += n.BytesIn
	c.BytesOut += n.BytesOut
	c.LatencySum += time.Duration(n.SumNs)
	for i := range c.Classes {
		c.Classes[i] += n.Classes[i]
		c.Requests += n.Classes[i]
	}
	for i := range c.GRPC {
		c.GRPC[i] += n.Grpc[i]
	}
	for i := range n.Latency {
		if n.Latency[i] > 0 {
			c.Latency.Add(i, n.Latency[i])
		}
		if n.Complete[i] > 0 {
			c.Complete.Add(i, n.Complete[i])
		}
	}
}

// wall is the wall clock's time of one of the monotonic clock's, of which zero
// is none.
func (r *reader) wall(ns uint64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return r.boot.Add(time.Duration(ns))
}

// least is the smaller one of two times, of which zero is none.
func least(a, b uint64) uint64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// bootTime is when the kernel's monotonic clock, which the programs read, was
// zero.
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return time.Now().Round(0).Add(-time.Duration(ts.Nano())), nil
}
