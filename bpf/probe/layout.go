package probe

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// size fits the maps and constants of an object to the options.
func size(spec *ebpf.CollectionSpec, opts Options) error {
	n := uint32(opts.Workloads)
	if n == 0 {
		return nil
	}
	spec.Maps["workloads"].MaxEntries, spec.Maps["slots"].MaxEntries = n, n
	if err := spec.Variables["max_slots"].Set(n); err != nil {
		return fmt.Errorf("sizing the probe: %w", err)
	}
	return nil
}

// prime fills new maps: there is nothing to fill.
func prime(*ebpf.Collection, Options) error { return nil }
