package probe

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Forget gives the slot of a workload back, for another one. What the workload
// has counted is gone, so it should be, too; if it counts again, it begins anew.
// Forgetting what is not there does nothing.
func (p *Probe) Forget(w Workload) error {
	r := p.reader
	r.mu.Lock()
	defer r.mu.Unlock()
	key := keyOf(w)
	var ticket uint32
	err := r.workloads.Lookup(&key, &ticket)
	if err == nil {
		err = r.workloads.Delete(&key)
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("forgetting workload %v: %w", w, err)
	}
	if err := handOut(p.coll, p.opts, ticket+1<<16); err != nil {
		return fmt.Errorf("forgetting workload %v: %w", w, err)
	}
	return nil
}
