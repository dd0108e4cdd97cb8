package source

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// Pods come and go on three nodes at random; what a block has to count is worked
// out beside it from the rule alone: what was answered since the last block at an
// address that was listed when it began, or was within the minute before,
// and is not the other version's by now.
func TestPodsThatComeAndGoAtRandomAreCountedByTheRule(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			comeAndGo(t, seed)
		})
	}
}

func comeAndGo(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(4, seed))
	c := newCluster(t)
	c.join(newMachine(t, "d"))
	var all []string
	machineOf := map[string]*machine{}
	for i, name := range []string{"a", "b", "d"} {
		for j := range 4 {
			addr := fmt.Sprintf("10.0.%d.%d:8080", i, j)
			all, machineOf[addr] = append(all, addr), c.machines[name]
		}
	}
	owner := map[string]int{} // by the list at the begin of a block, lingering ones included
	deal := func() map[string]int {
		listed, lists := map[string]int{}, [2][]string{}
		for _, addr := range all {
			if whose := r.IntN(3); whose < 2 {
				listed[addr], lists[whose] = whose, append(lists[whose], addr)
			}
		}
		r.Shuffle(len(lists[0]), func(i, j int) { lists[0][i], lists[0][j] = lists[0][j], lists[0][i] })
		c.pods(lists[0], lists[1])
		return listed
	}
	for addr, whose := range deal() {
		owner[addr] = whose
	}
	s := watch(t, c)
	for range 60 {
		served := map[string][2]uint64{}
		for range r.IntN(8) {
			addr := all[r.IntN(len(all))]
			ok, bad := r.Uint64N(5), r.Uint64N(3)
			machineOf[addr].serveIn(1+r.Uint64N(2), addr, ok, bad)
			served[addr] = [2]uint64{served[addr][0] + ok + bad, served[addr][1] + bad}
		}
		after := owner
		if r.IntN(2) == 0 {
			after = deal()
		}
		var want [4]uint64
		for addr, n := range served {
			whose, mine := owner[addr]
			if now, listed := after[addr]; mine && (!listed || now == whose) {
				want[2*whose] += n[0]
				want[2*whose+1] += n[1]
			}
		}
		if got := block(t, s); got != want {
			t.Fatalf("%v, want %v", got, want)
		}
		next := map[string]int{}
		for _, list := range []map[string]int{owner, after} { // later ones win
			for addr, whose := range list {
				if p := s.pods[netip.MustParseAddrPort(addr)]; p != nil { // not those of more than a minute ago
					next[addr] = whose
				}
			}
		}
		owner = next
		if r.IntN(10) == 0 { // a minute passes
			for _, p := range s.pods {
				if !p.left.IsZero() {
					p.left = p.left.Add(-linger)
				}
			}
		}
	}
}
