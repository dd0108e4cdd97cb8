package probe

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Indices of the map totals, as in the program.
const (
	totalLost       = 1
	totalUnmeasured = 2
)

// Snapshot reads all counters.
func (p *Probe) Snapshot() (Snapshot, error) {
	s := Snapshot{At: time.Now(), Workloads: map[Workload]Counts{}}
	for which, n := range map[uint32]*uint64{totalLost: &s.Loss.Requests, totalUnmeasured: &s.Loss.Unmeasured} {
		if err := p.coll.Maps["totals"].Lookup(which, n); err != nil {
			return s, fmt.Errorf("reading the probe's totals: %w", err)
		}
	}
	var key probeWorkload
	var slot uint32
	entries := p.coll.Maps["workloads"].Iterate()
	for entries.Next(&key, &slot) {
		var cpus []probeCounts
		if err := p.coll.Maps["slots"].Lookup(slot, &cpus); err != nil {
			return s, fmt.Errorf("reading the probe's slot %d: %w", slot, err)
		}
		s.Workloads[workloadOf(key)] = sum(cpus, p.boot)
	}
	if err := entries.Err(); err != nil {
		return s, fmt.Errorf("listing the probe's workloads: %w", err)
	}
	return s, nil
}

func workloadOf(k probeWorkload) Workload {
	var raw [16]byte
	for i, word := range k.Addr { // network order in memory, whatever the machine
		raw[4*i], raw[4*i+1], raw[4*i+2], raw[4*i+3] = byte(word), byte(word>>8), byte(word>>16), byte(word>>24)
	}
	return Workload{Cgroup: k.Cgroup, Addr: netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), uint16(k.Port))}
}

// sum adds up the CPUs.
func sum(cpus []probeCounts, boot time.Time) Counts {
	var c Counts
	var first, firstError uint64
	for _, cpu := range cpus {
		c.Requests += cpu.Requests
		c.Aborted += cpu.Aborted
		c.Retransmits += cpu.Retransmits
		for i := range c.Classes {
			c.Classes[i] += cpu.Classes[i]
		}
		for i, n := range cpu.Buckets {
			if n > 0 {
				c.Latency.Add(i, n)
			}
		}
		first, firstError = least(first, cpu.FirstNs), least(firstError, cpu.FirstErrorNs)
	}
	if first > 0 {
		c.First = boot.Add(time.Duration(first))
	}
	if firstError > 0 {
		c.FirstError = boot.Add(time.Duration(firstError))
	}
	return c
}

// Exemplars returns the requests worth a look that the probe has noted since the
// last call. It does not wait.
func (p *Probe) Exemplars() ([]Exemplar, error) { return nil, nil }

// least is the smaller one of two times, of which zero is none.
func least(a, b uint64) uint64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// bootTime is when the kernel's monotonic clock, which the program reads, was
// zero.
func bootTime() (time.Time, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return time.Time{}, fmt.Errorf("reading the monotonic clock: %w", err)
	}
	return time.Now().Round(0).Add(-time.Duration(ts.Nano())), nil
}
