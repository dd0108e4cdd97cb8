package source

import "testing"

// Where kubelets use cgroup v1 all pods of a node are in one version 2 group,
// where they use v2 each container has its own, which is another one after a
// restart. A pod is known by its address in either case.
func TestControlGroupsOfNodesDoNotMatter(t *testing.T) {
	for name, group := range map[string]func(pod int) uint64{
		"cgroup v1: the root is everybody's":     func(int) uint64 { return 1 },
		"cgroup v2: each container has its own":  func(pod int) uint64 { return uint64(100 + pod) },
		"groups of other nodes have the numbers": func(pod int) uint64 { return uint64(pod % 2) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			s := watch(t, c)
			a, b := c.machines["a"], c.machines["b"]
			a.serveIn(group(0), podA, 10, 1)
			b.serveIn(group(1), podB, 20, 2)
			b.serveIn(group(2), podC, 30, 3)
			if got, want := block(t, s), [4]uint64{33, 3, 33, 3}; got != want {
				t.Errorf("got %v, want %v", got, want)
			}
			b.serveIn(group(3), podC, 5, 0) // its container was started anew
			if got, want := block(t, s), [4]uint64{0, 0, 5, 0}; got != want {
				t.Errorf("after a restart got %v, want %v", got, want)
			}
		})
	}
}
