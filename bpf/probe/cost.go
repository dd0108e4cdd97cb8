package probe

import (
	"fmt"
	"time"
)

// Cost is what the programs took in the kernel since the probe's maps were made.
// It is an estimate: one run in 64 is measured and counts for all of them.
type Cost struct {
	Runs uint64
	Time time.Duration // of the processors
}

// Cost adds up what the processors have measured.
func (p *Probe) Cost() (Cost, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var each []probeCost
	if err := p.coll.Maps["costs"].Lookup(uint32(0), &each); err != nil {
		return Cost{}, fmt.Errorf("reading what the probe costs: %w", err)
	}
	var sum Cost
	for _, c := range each {
		sum.Runs += c.Runs
		sum.Time += time.Duration(c.Ns)
	}
	return sum, nil
}
