package probe

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Cost is what the programs took in the kernel since the probe was loaded.
type Cost struct {
	Runs uint64
	Time time.Duration // of the processors, measuring it included
}

// ErrNoStats means that Options.Stats is not set.
var ErrNoStats = errors.New("run-time statistics are not switched on")

// Cost sums the kernel's run-time statistics over the programs, those that were
// replaced included. It is ErrNoStats if the probe was loaded without
// Options.Stats.
func (p *Probe) Cost() (Cost, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stats == nil {
		return Cost{}, ErrNoStats
	}
	now, err := running(p.staged.Programs)
	return p.spent.plus(now), err
}

func (c Cost) plus(d Cost) Cost { return Cost{c.Runs + d.Runs, c.Time + d.Time} }

func running(programs map[string]*ebpf.Program) (Cost, error) {
	var sum Cost
	for name, prog := range programs {
		stats, err := prog.Stats()
		if err != nil {
			return sum, fmt.Errorf("reading the run-time statistics of program %s: %w", name, err)
		}
		sum = sum.plus(Cost{stats.RunCount, stats.Runtime})
	}
	return sum, nil
}

// enableStats switches run-time statistics on, for all programs of the machine,
// until the probe is closed.
func (p *Probe) enableStats() (err error) {
	if !p.opts.Stats {
		return nil
	}
	p.stats, err = ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		p.stats = nil
		return fmt.Errorf("switching run-time statistics on: %w", err)
	}
	return nil
}

// retire frees the programs that were replaced, after noting what they cost.
func (p *Probe) retire() {
	if p.stats != nil {
		last, _ := running(p.staged.Programs) // what cannot be read is missing in the sum
		p.spent = p.spent.plus(last)
	}
	p.staged.Close()
}
