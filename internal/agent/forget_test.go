package agent

import (
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/internal/testenv"
)

func TestAWorkloadIsForgottenAMinuteAfterItsGroup(t *testing.T) {
	web := probe.Workload{Cgroup: 1, Addr: netip.MustParseAddrPort("10.0.0.1:80")}
	api := probe.Workload{Cgroup: 2, Addr: netip.MustParseAddrPort("10.0.0.2:80")}
	counted := map[probe.Workload]probe.Counts{web: {}, api: {}}
	both, one := map[uint64]bool{1: true, 2: true}, map[uint64]bool{1: true}
	g := gone{}
	begin := time.Now()
	for _, step := range []struct {
		after time.Duration
		alive map[uint64]bool
		want  []probe.Workload
	}{
		{0, both, nil},
		{10 * time.Second, one, nil},
		{69 * time.Second, one, nil},
		{69 * time.Second, both, nil}, // it is back
		{80 * time.Second, one, nil},
		{139 * time.Second, one, nil},
		{140 * time.Second, one, []probe.Workload{api}},
	} {
		if got := g.due(begin.Add(step.after), counted, step.alive); !slices.Equal(got, step.want) {
			t.Errorf("after %v: %v, want %v", step.after, got, step.want)
		}
	}
	if len(g) != 0 {
		t.Errorf("%d are still remembered", len(g))
	}
}

func TestGroupsAreTheOnesThatExist(t *testing.T) {
	root := testenv.TempCgroup(t)
	if err := os.Mkdir(root+"/pod", 0o755); err != nil {
		t.Fatal(err)
	}
	two, err := groups(root)
	if err != nil || len(two) != 2 {
		t.Fatalf("%v, %v; want two", two, err)
	}
	if err := os.Remove(root + "/pod"); err != nil {
		t.Fatal(err)
	}
	if one, err := groups(root); err != nil || len(one) != 1 {
		t.Errorf("%v, %v; want one", one, err)
	}
	if _, err := groups(root + "/missing"); err == nil {
		t.Error("a group that is not there has groups")
	}
}
