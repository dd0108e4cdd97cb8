package testenv

import (
	"os"
	"strconv"
	"testing"
)

// A Fault is what a test does to the product or to what it depends on.
type Fault string

// The faults that the product has to survive. For each there is a test that
// calls [Chaos] with it; tools/chaos.sh fails if there is none.
const (
	Kill           Fault = "kill"            // SIGKILL, at any step
	Stop           Fault = "stop"            // a process or machine that no longer answers
	FullDisk       Fault = "full disk"       // no space left
	DeadRegistry   Fault = "dead registry"   // of images
	DeadPrometheus Fault = "dead Prometheus" // or another reader of the metrics
	DeadEtcd       Fault = "dead etcd"
	DeadGit        Fault = "dead git server"
	NoAPIServer    Fault = "no API server" // of Kubernetes
	PacketLoss     Fault = "packet loss"   // packets are lost, reordered, doubled or changed
)

// Chaos tells a test that injects a fault how many times to do it: as often as it
// asks for, times SLUICE_CHAOS where faults are what is looked for (make chaos).
// Rounds ought to differ, in their moment or their seed.
func Chaos(t testing.TB, fault Fault, rounds int) int {
	t.Helper()
	times := 1
	if text := os.Getenv("SLUICE_CHAOS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			t.Fatalf("SLUICE_CHAOS is %q, want a whole number from 1 on", text)
		}
		times = n
	}
	if testing.Short() {
		return min(rounds, 3)
	}
	if rounds *= times; times > 1 {
		t.Logf("chaos: %s, %d rounds", fault, rounds)
	}
	return rounds
}
