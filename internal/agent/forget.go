package agent

import (
	"errors"
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
		a.log.Warn("no workload is forgotten: control groups cannot be listed", "err", err)
		return
	}
	for _, w := range a.gone.due(now, counted, alive) {
		a.giveBack(w, counted)
	}
}

// giveBack forgets a workload, but for what it has sent: that is a part of the
// machine's traffic.
func (a *Agent) giveBack(w probe.Workload, counted map[probe.Workload]probe.Counts) {
	if err := a.probe.Forget(w); err != nil {
		a.log.Warn("not forgotten", "err", err)
		return
	}
	c := counted[w]
	a.forgotten = a.forgotten.plus(Segments{Sent: c.Segments, Again: c.Retransmits})
	delete(counted, w)
}

// hideSelfTests gives back what self-tests made, once they are over: it is not
// for anybody to see.
func (a *Agent) hideSelfTests(counted map[probe.Workload]probe.Counts) {
	for w := range counted {
		if isSelfTest(w) {
			a.giveBack(w, counted)
			delete(counted, w)
		}
	}
}

// groups lists the ids of a control group and those below it: of cgroup v2 they
// are the inode numbers of its folders. What cannot be looked into is an error:
// the owner of a group may lock it, and its workloads are not gone.
func groups(root string) (map[uint64]bool, error) {
	ids := map[uint64]bool{}
	root, err := filepath.EvalSymlinks(root)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != root {
			return nil // it went while we looked
		}
		if err != nil || !d.IsDir() {
			return err
		}
		var st syscall.Stat_t
		if err := syscall.Stat(path, &st); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		ids[st.Ino] = true
		return nil
	})
	return ids, err
}
