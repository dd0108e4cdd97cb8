package source

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

// move says that the probe of a node is elsewhere.
func (c *cluster) move(node, target string) {
	c.leave(node)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, Node{node, target})
}

// asked is a fleet that counts how often it is asked.
type asked struct {
	*cluster
	nodes, addresses int
}

func (f *asked) Nodes(ctx context.Context) ([]Node, error) {
	f.nodes++
	return f.cluster.Nodes(ctx)
}

func (f *asked) Addresses(ctx context.Context) (stable, canary []netip.AddrPort, err error) {
	f.addresses++
	return f.cluster.Addresses(ctx)
}

func TestTheFleetIsAskedForNodesOnlyWhenTheyMayHaveChanged(t *testing.T) {
	c := newCluster(t)
	f := &asked{cluster: c}
	s, err := NewNodes(t.Context(), f, NodesConfig{Block: 20 * time.Millisecond, Grace: 10 * time.Second, Object: object})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	blocks := func(n int) int {
		before := f.nodes
		for range n {
			block(t, s)
		}
		return f.nodes - before
	}
	blocks(1) // where pods are new
	s.listed = time.Now().Add(time.Hour)
	was := f.addresses
	if n := blocks(5); n != 0 || f.addresses != was+5 {
		t.Errorf("in 5 blocks without any change it was asked for nodes %d times, for pods %d times", n, f.addresses-was)
	}
	c.pods([]string{podA, podB}, []string{podC, podD})
	c.join(newMachine(t, "c"))
	if n := blocks(1); n == 0 {
		t.Error("a pod came, and nobody asked where it is")
	}
	blocks(2)
	c.pods([]string{podA, podB}, []string{podC})
	c.leave("c")
	if n := blocks(2); n == 0 {
		t.Error("a pod left, and nobody asked whether its node is needed")
	}
	s.listed = time.Now().Add(time.Hour)
	moved := newMachine(t, "b")
	moved.status.Start = c.machines["b"].status.Start
	c.machines["b"].replace(broken)
	c.move("b", moved.url)
	if n := blocks(1); n == 0 {
		t.Error("a probe does not answer, and nobody asked where it is")
	}
	s.listed = time.Now().Add(-relist - time.Second)
	if n := blocks(2); n == 0 {
		t.Error("it is never asked again")
	}
}
