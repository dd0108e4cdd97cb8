package agent

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// costWindow is over what time the share of a core is taken: long enough for a
// collection of garbage to be one event among others.
const costWindow = 10 * time.Second

// meter measures what measuring costs: the programs by what they measure of
// themselves, the daemon by its processor time.
type meter struct {
	kernel probe.Cost
	share  float64
	points []costPoint
}

type costPoint struct {
	at   time.Time
	used time.Duration
}

// measure takes a reading.
func (m *meter) measure(now time.Time, p *probe.Probe) error {
	own, err := processTime()
	if err != nil {
		return err
	}
	if m.kernel, err = p.Cost(); err != nil {
		return fmt.Errorf("reading what the probe costs: %w", err)
	}
	m.add(now, own+m.kernel.Time)
	return nil
}

// add works out the share of a core over the window. Before a whole one has
// passed it counts as if nothing had been done before: the work of a start, such
// as verifying the object, is not what measuring costs.
func (m *meter) add(now time.Time, used time.Duration) {
	m.points = append(m.points, costPoint{now, used})
	for len(m.points) > 2 && now.Sub(m.points[1].at) >= costWindow {
		m.points = m.points[1:]
	}
	first := m.points[0]
	m.share = max(0, float64(used-first.used)/float64(max(now.Sub(first.at), costWindow)))
}

// processTime is the processor time of this process, all threads together.
func processTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("reading the own processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
