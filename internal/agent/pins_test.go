package agent

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sluice-cd/sluice/bpf"
)

// attacksOnPins are what somebody may do in the folder of pins.
var attacksOnPins = map[string]func(t *testing.T, pin string){
	"a link": func(t *testing.T, pin string) { remove(t, filepath.Join(pin, "link_egress")) },
	"a map":  func(t *testing.T, pin string) { remove(t, filepath.Join(pin, "map_totals")) },
	"the folder": func(t *testing.T, pin string) {
		if err := os.RemoveAll(pin); err != nil {
			t.Fatal(err)
		}
	},
	"a map in the place of another one": func(t *testing.T, pin string) {
		path := filepath.Join(pin, "map_totals")
		remove(t, path)
		m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if err := m.Pin(path); err != nil {
			t.Fatal(err)
		}
	},
}

// TestPinsThatSomebodyRemovesAreMadeAgain: what runs is right, so it stays, and so
// do the counters and a trial.
func TestPinsThatSomebodyRemovesAreMadeAgain(t *testing.T) {
	for name, attack := range attacksOnPins {
		t.Run(name, func(t *testing.T) {
			pin := pinFolder(t)
			l := newLab(t, func(c *Config) { c.Pin, c.Keep, c.Probation = pin, true, patience })
			l.request(3)
			if _, refused := l.offer(other(t)); refused != nil {
				t.Fatal(refused)
			}
			attack(t, pin)
			l.eventually("a mismatch", func() bool { return l.snapshot().Mismatch != "" })
			l.eventually("the repair", func() bool { return strings.Contains(l.snapshot().Mismatch, "repaired after") })
			l.agent.mu.Lock()
			onTrial, last := l.agent.trial != nil, &l.agent.mismatch.last
			last.Over = last.Over.Add(-shown) // nobody has to wait until it is told no more
			l.agent.mu.Unlock()
			if got := l.running(); got != bpf.DigestOf(other(t)) || !onTrial {
				t.Errorf("%s runs, on trial: %v", got, onTrial)
			}
			l.eventually("it to be ready", func() bool { return l.get("/readyz") == http.StatusOK })
			cfg := l.agent.cfg
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			l.request(4) // while no agent runs
			cfg.Keep = false
			l.run(cfg)
			l.eventually("all requests", func() bool { return requests(l.snapshot()) == 7 })
		})
	}
}

// pinFolder is an empty folder for pins.
func pinFolder(t *testing.T) string {
	t.Helper()
	fs, err := bpf.MountedBPFFS()
	if err != nil {
		t.Fatal(err)
	}
	pin, err := os.MkdirTemp(fs, "sluice-agent-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(pin) })
	return pin
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
