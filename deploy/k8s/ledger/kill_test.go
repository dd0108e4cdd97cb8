package ledger

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// TestLedgerWriter is the process that TestLedgerKilled kills.
func TestLedgerWriter(t *testing.T) {
	kubeconfig, namespace := os.Getenv("TEST_LEDGER_KUBECONFIG"), os.Getenv("TEST_LEDGER_NAMESPACE")
	if kubeconfig == "" {
		return
	}
	cfg, err := apiserver.Connect(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		var log *release.Shared
		if log, err = Open(t.Context(), cfg, namespace, "shop"); err != nil {
			break
		}
		var id int
		who := fmt.Sprintf("%d-%d", os.Getpid(), n)
		if id, err = log.Start(t.Context(), rollout(who)); err != nil {
			break
		}
		fmt.Println("ledger started", id, who)
		if err = log.Finish(t.Context(), id, promoted()); err == nil {
			fmt.Println("ledger finished", id, who)
		}
	}
	fmt.Println("ledger error", err)
}

// TestLedgerKilled lets several processes write at once, kills them at random
// moments and restarts the API server: what they said they had written is there,
// once, and the chain is sound.
func TestLedgerKilled(t *testing.T) {
	p := cluster.ControlPlane(t)
	for round := range testenv.Chaos(t, testenv.Kill, 1) {
		t.Run(fmt.Sprint("seed ", round), func(t *testing.T) { killLedger(t, p, uint64(round)) })
	}
}

func killLedger(t *testing.T, p *cluster.Plane, seed uint64) {
	const kills = 10
	l := newLedgers(t, p)
	said := make(chan string, 1<<16)
	var writers sync.WaitGroup
	for w := range 4 {
		random := rand.New(rand.NewPCG(uint64(w), 5+seed))
		writers.Go(func() {
			for range kills {
				writeAndKill(t, p.Kubeconfig, l.name, time.Duration(random.IntN(400))*time.Millisecond, said)
			}
		})
	}
	time.Sleep(time.Second)
	if err := p.Restart(context.Background()); err != nil {
		t.Error(err)
	}
	writers.Wait()
	close(said)
	records, err := l.open().Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkSaid(t, records, said, 4*kills)
}

// checkSaid compares what writers said with what the ledger says.
func checkSaid(t *testing.T, records []release.Record, said <-chan string, most int) {
	t.Helper()
	owner := map[string]int{}
	open := 0
	for _, r := range records {
		if was := owner[r.Rollout.Operator]; was != 0 {
			t.Errorf("rollouts %d and %d are the same one", was, r.ID)
		}
		owner[r.Rollout.Operator] = r.ID
		if !r.Finished() {
			open++
		}
	}
	started, finished := 0, 0
	for line := range said {
		var word, who string
		var id int
		if _, err := fmt.Sscan(line, &word, &id, &who); err != nil {
			t.Errorf("a writer said %q", line)
			continue
		}
		if owner[who] != id {
			t.Errorf("%s was told that its rollout is %d, the ledger says %d", who, id, owner[who])
		}
		switch word {
		case "started":
			started++
		case "finished":
			finished++
			if id < 1 || id > len(records) || !records[id-1].Finished() {
				t.Errorf("rollout %d has not ended, and %s was told that it has", id, who)
			}
		}
	}
	if open > most || started < most {
		t.Errorf("%d started, %d ended, %d left open by %d kills", started, finished, open, most)
	}
	t.Logf("%d rollouts, %d reported as started, %d as ended, %d left open by %d kills", len(records), started, finished, open, most)
}

// writeAndKill starts a writer and kills it some time after its first word.
func writeAndKill(t *testing.T, kubeconfig, namespace string, after time.Duration, said chan<- string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestLedgerWriter$")
	cmd.Env = append(os.Environ(), "TEST_LEDGER_KUBECONFIG="+kubeconfig, "TEST_LEDGER_NAMESPACE="+namespace)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	limit := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer limit.Stop()
	armed := false
	for in := bufio.NewScanner(out); in.Scan(); {
		line, ours := strings.CutPrefix(in.Text(), "ledger ")
		if !ours {
			continue
		}
		if !armed {
			armed = true
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		said <- line
	}
	_ = cmd.Wait()
	if !armed {
		t.Errorf("a writer never wrote: %s", errs.String())
	}
}
