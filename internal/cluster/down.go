package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// Down ends a cluster and removes everything of it: processes, control groups,
// mounts, interfaces and files. It does not matter whether the cluster is whole,
// half started or already gone, nor who started it.
func Down(ctx context.Context, name string) error {
	s, err := stateOf(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	unlock, busy := flock(string(s), syscall.LOCK_NB)
	if busy == nil {
		defer unlock()
	}
	if err := s.remove(ctx); err != nil {
		return err
	}
	if busy == nil { // otherwise the lock belongs to an Up, which we have just made fail
		_ = os.Remove(string(s) + ".lock")
	}
	return nil
}

// end ends a cluster that did not start. Its logs stay for whoever wonders why.
func (s state) end(ctx context.Context) error {
	groups, err := s.groups()
	if err != nil {
		return err
	}
	return removeGroups(ctx, groups)
}

// remove is end, and the files.
func (s state) remove(ctx context.Context) error {
	if err := s.end(ctx); err != nil {
		return fmt.Errorf("ending cluster %s: %w", s.name(), err)
	}
	// Mounts go with the last process of their namespace, which is a moment later.
	err := until(ctx, 10*time.Second, func() error { return os.RemoveAll(string(s)) }, func(error) bool { return true })
	if err != nil {
		return fmt.Errorf("removing the files of cluster %s: %w", s.name(), err)
	}
	return nil
}

// groups are the control groups of a cluster, and those that one of the same name
// would get: the first are not known if the folder was removed by hand.
func (s state) groups() ([]string, error) {
	var sp spec
	if err := s.load("spec.json", &sp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(sp.Groups) > 0 {
		return sp.Groups, nil
	}
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, h := range all {
		dirs = append(dirs, h.group(groupPrefix+s.name()))
	}
	return dirs, nil
}
