package agent

import (
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
)

// forgetAfter is how long a control group has to be gone before the slots of its
// workloads serve others. Until then readers see the last that it counted.
const forgetAfter = time.Minute

// gone remembers since when workloads have no control group any more.
type gone map[probe.Workload]time.Time

// due returns the workloads to be forgotten, of those that are counted. alive
// are the control groups that exist.
func (g gone) due(now time.Time, counted map[probe.Workload]probe.Counts, alive map[uint64]bool) []probe.Workload {
	var due []probe.Workload
	for w := range counted {
		since, known := g[w]
		switch {
		case alive[w.Cgroup]:
			delete(g, w)
		case !known:
			g[w] = now
		case now.Sub(since) >= forgetAfter:
			delete(g, w)
			due = append(due, w)
		}
	}
	return due
}

// forget gives the slots of workloads back whose control groups are gone: on a
// node where containers come and go there would be none left.
func (a *Agent) forget(now time.Time, counted map[probe.Workload]probe.Counts) {
	if now.Sub(a.swept) < forgetAfter/2 {
		return
	}
	a.swept = now
	alive, err := groups(a.cfg.Cgroup)
	if err != nil {
		a.log.Warn("control groups cannot be listed", "err", err)
		return
	}
	for _, w := range a.gone.due(now, counted, alive) {
		if err := a.probe.Forget(w); err != nil {
			a.log.Warn("not forgotten", "err", err)
			continue
		}
		delete(counted, w)
	}
}

// groups lists the ids of a control group and those below it: of cgroup v2 they
// are the inode numbers of its folders.
func groups(root string) (map[uint64]bool, error) {
	ids := map[uint64]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			if path == root {
				return err
			}
			return nil // it went while we looked
		}
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			ids[st.Ino] = true
		}
		return nil
	})
	return ids, err
}
