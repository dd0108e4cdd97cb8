package probe

import (
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
)

// defaultWorkloads is what the object comes with.
const defaultWorkloads = 256

// maxShardBits bounds the memory of a slot: CPUs beyond eight share its shards.
const maxShardBits = 3

// size fits the maps and constants of an object to the options and to this
// machine.
func size(spec *ebpf.CollectionSpec, opts Options) error {
	workloads := opts.workloads()
	if workloads > 0xffff {
		return fmt.Errorf("sizing the probe: %d workloads are more than 65535", workloads)
	}
	shardBits := opts.shardBits()
	spec.Maps["workloads"].MaxEntries = workloads
	spec.Maps["free_tickets"].MaxEntries = workloads
	spec.Maps["slots"].MaxEntries = workloads << shardBits
	constants := map[string]uint32{"shard_bits": shardBits, "measure_dials": 0}
	if opts.Outgoing {
		constants["measure_dials"] = 1
	}
	for name, value := range constants {
		v := spec.Variables[name]
		if v == nil {
			return &LayoutError{What: "variable " + name, Want: "there", Got: "missing"}
		}
		if err := v.Set(value); err != nil {
			return fmt.Errorf("sizing the probe: %w", err)
		}
	}
	return nil
}

func (o Options) workloads() uint32 {
	if o.Workloads <= 0 {
		return defaultWorkloads
	}
	return uint32(o.Workloads)
}

// shardBits is the logarithm of the number of shards of a slot.
func (o Options) shardBits() uint32 {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return maxShardBits
	}
	return uint32(min(bits.Len(uint(cpus-1)), maxShardBits))
}

// prime puts a ticket for every slot into the queue. A ticket is the number of
// its slot, from 1, and in the upper half how often the slot was given back.
func prime(coll *ebpf.Collection, opts Options) error {
	for slot := range opts.workloads() {
		if err := handOut(coll, opts, slot+1); err != nil {
			return fmt.Errorf("preparing the slots of the probe: %w", err)
		}
	}
	return nil
}

// handOut empties the slot of a ticket and puts the ticket into the queue.
func handOut(coll *ebpf.Collection, opts Options, ticket uint32) error {
	shards := uint32(1) << opts.shardBits()
	empty := probeCounts{Ticket: ticket}
	for shard := range shards {
		if err := coll.Maps["slots"].Put((ticket&0xffff-1)*shards+shard, &empty); err != nil {
			return err
		}
	}
	return coll.Maps["free_tickets"].Put(nil, ticket)
}
