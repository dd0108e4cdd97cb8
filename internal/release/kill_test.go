package release

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/testenv"
)

const writerEnv = "SLUICE_TEST_LEDGER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		writeForever(path)
	}
	os.Exit(m.Run())
}

// writeForever closes what the writer before it left, and then starts and ends
// rollouts, saying on stdout what is on the disk. Its lines take up several
// pages, since the kernel stops a killed process between two pages.
func writeForever(path string) {
	l, err := OpenLedger(path)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("cut", l.Cut())
	long := strings.Repeat("x", 256<<10)
	finish := func(id int) error {
		return l.Finish(id, Result{Outcome: RolledBack, Trigger: Crash, Reason: long, Ended: time.Now()})
	}
	for _, r := range l.Unfinished() {
		if finish(r.ID) == nil {
			fmt.Println("finished", r.ID)
		}
	}
	for err == nil {
		var id int
		if id, err = l.Start(Rollout{Name: "shop", Version: "v1.0.0", Operator: long, Started: time.Now()}); err != nil {
			break
		}
		fmt.Println("started", id)
		if err = finish(id); err == nil {
			fmt.Println("finished", id)
		}
	}
	fmt.Println("error", err)
	os.Exit(1)
}

func TestKillingTheWriterLosesNothingThatWasReported(t *testing.T) {
	kills := testenv.Chaos(t, testenv.Kill, 50)
	random := rand.New(rand.NewPCG(1, 2))
	var path string
	var started, finished, torn, total int
	for i := range kills {
		if i%5 == 0 {
			path = filepath.Join(t.TempDir(), "ledger.jsonl")
			total, started, finished = total+started, 0, 0
		}
		said := runAndKill(t, path, time.Duration(random.IntN(40))*time.Millisecond)
		for _, line := range said {
			word, rest, _ := strings.Cut(line, " ")
			var n int
			if _, err := fmt.Sscan(rest, &n); err != nil || word == "error" {
				t.Fatalf("the writer said %q", line)
			}
			switch word {
			case "started":
				started = n
			case "finished":
				finished = n
			case "cut":
				torn += min(n, 1)
			}
		}
		history, err := ReadHistory(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(history) < started || finished > 0 && !history[finished-1].Finished() {
			t.Fatalf("%d rollouts; the writer had said that %d had started and %d ended", len(history), started, finished)
		}
		for _, r := range history[:max(0, len(history)-1)] {
			if !r.Finished() {
				t.Fatalf("rollout %d of %d was never closed", r.ID, len(history))
			}
		}
		os.Truncate(path+".lock", 0) // what it says must not matter
		l := open(t, path)
		torn += min(l.Cut(), 1)
		l.Close()
	}
	t.Logf("%d kills, %d rollouts, %d torn lines", kills, total+started, torn)
}

// runAndKill starts a writer, kills it after its first word and the given
// time, and returns its complete lines.
func runAndKill(t *testing.T, path string, after time.Duration) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerEnv+"="+path)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			break
		}
		if len(said) == 0 {
			time.AfterFunc(after, func() { cmd.Process.Kill() })
		}
		said = append(said, strings.TrimSuffix(line, "\n"))
	}
	cmd.Wait()
	return said
}
