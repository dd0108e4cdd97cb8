package ledger

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/internal/etcd"
	"github.com/sluice-cd/sluice/internal/etcd/etcdtest"
	"github.com/sluice-cd/sluice/internal/release"

	"github.com/sluice-cd/sluice/internal/testenv"
)

func connect(t *testing.T, url string) *etcd.Client {
	t.Helper()
	c, err := etcd.New(etcd.Config{Endpoints: []string{url}, Timeout: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func open(t *testing.T, url string) *release.Shared {
	t.Helper()
	l, err := Open(connect(t, url), "shop")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func rollout(operator string) release.Rollout {
	return release.Rollout{Name: "shop", Version: "1.0.0", Operator: operator, Started: time.Now()}
}

func end() release.Result {
	return release.Result{Outcome: release.Promoted, Verdict: "pass", Ended: time.Now()}
}

func TestTwoClientsShareALedger(t *testing.T) {
	s := etcdtest.Start(t)
	log, other := open(t, s.URL), open(t, s.URL)
	if records, err := log.Records(t.Context()); err != nil || len(records) != 0 {
		t.Fatal(records, err)
	}
	id, err := log.Start(t.Context(), rollout(""))
	if err != nil {
		t.Fatal(err)
	}
	var running *release.RunningError
	if _, err := other.Start(t.Context(), rollout("")); !errors.As(err, &running) {
		t.Errorf("a second rollout: %v", err)
	}
	if err := other.Finish(t.Context(), id, end()); err != nil {
		t.Fatal(err)
	}
	var ended *release.FinishedError
	if err := log.Finish(t.Context(), id, end()); !errors.As(err, &ended) {
		t.Errorf("ending twice: %v", err)
	}
	if err := log.Forget(t.Context(), id, release.Forgotten{Operator: "ann", At: time.Now()}); err != nil {
		t.Error(err)
	}
	if sum, err := log.Verify(t.Context()); err != nil || sum.Lines != 3 {
		t.Errorf("%+v, %v", sum, err)
	}
	next, err := Open(connect(t, s.URL), "shop-2")
	if err != nil {
		t.Fatal(err)
	}
	if records, err := next.Records(t.Context()); err != nil || len(records) != 0 {
		t.Errorf("the ledger of another service: %v, %v", records, err)
	}
}

func TestNamesThatAreRefused(t *testing.T) {
	for _, name := range []string{"", "a/b"} {
		if _, err := Open(nil, name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

// TestMoreLinesThanAnAnswerHolds reads page by page.
func TestMoreLinesThanAnAnswerHolds(t *testing.T) {
	s := etcdtest.Start(t)
	log := open(t, s.URL)
	log.Patience = 2 * time.Minute
	var writers sync.WaitGroup
	const each, many = 30, 4
	for w := range many {
		writers.Go(func() {
			for i := range each {
				id, err := log.Start(t.Context(), rollout(fmt.Sprintf("%d-%d", w, i)))
				if err == nil {
					err = log.Finish(t.Context(), id, end())
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	sum, err := log.Verify(t.Context())
	if err != nil || sum.Lines != 2*each*many || sum.Lines <= page {
		t.Errorf("%+v, %v", sum, err)
	}
}

func TestDamage(t *testing.T) {
	s := etcdtest.Start(t)
	c, log := connect(t, s.URL), open(t, s.URL)
	for range 3 {
		id, err := log.Start(t.Context(), rollout(""))
		if err == nil {
			err = log.Finish(t.Context(), id, end())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	p := &place{c, "/sluice/ledger/shop/"}
	sound, _, err := p.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(sound), "\n")
	put := func(key, value string) {
		t.Helper()
		ask := etcd.TxnRequest{Success: []etcd.Operation{{Put: &etcd.KeyValue{Key: []byte(key), Value: []byte(value)}}}}
		if _, err := c.Txn(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		key, value string
		line       int
	}{
		"a changed byte":           {p.key(2), strings.Replace(lines[1], "pass", "fail", 1), 2},
		"two lines in a key":       {p.key(3), lines[2] + lines[3], 3},
		"a line without an end":    {p.key(6), strings.TrimSpace(lines[5]), 6},
		"another line":             {p.key(4), lines[1], 4},
		"a key of somebody else's": {p.prefix + "000000000003x", "hello\n", 4},
	} {
		t.Run(name, func(t *testing.T) {
			s := etcdtest.Start(t)
			c, p = connect(t, s.URL), &place{connect(t, s.URL), p.prefix}
			for i, line := range lines[:6] {
				put(p.key(i+1), line)
			}
			put(tt.key, tt.value)
			_, err := open(t, s.URL).Start(t.Context(), rollout(""))
			var corrupt *release.CorruptError
			if !errors.As(err, &corrupt) || corrupt.Line != tt.line {
				t.Errorf("got %v, want damage in line %d", err, tt.line)
			}
		})
	}
}

func TestEtcdAway(t *testing.T) {
	log := open(t, "http://"+etcdtest.FreePort(t))
	log.Patience = time.Second
	begin := time.Now()
	_, err := log.Start(t.Context(), rollout(""))
	var gone *etcd.UnavailableError
	if !errors.As(err, &gone) || time.Since(begin) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

// TestWriter is the process that TestKilled kills.
func TestWriter(t *testing.T) {
	url := os.Getenv("TEST_LEDGER_ETCD")
	if url == "" {
		return
	}
	log := open(t, url)
	for n := 0; ; n++ {
		who := fmt.Sprintf("%d-%d", os.Getpid(), n)
		id, err := log.Start(t.Context(), rollout(who))
		if err == nil {
			fmt.Println("ledger started", id, who)
			err = log.Finish(t.Context(), id, end())
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("ledger finished", id, who)
	}
}

// TestKilled kills writers and etcd: what was reported is there, once.
func TestKilled(t *testing.T) {
	s := etcdtest.Start(t)
	kills := testenv.Chaos(t, testenv.Kill, 15)
	var mu sync.Mutex
	said := map[string][]string{} // by word: "ID WHO"
	var writers sync.WaitGroup
	for w := range 4 {
		random := rand.New(rand.NewPCG(uint64(w), 7))
		writers.Go(func() {
			for range kills {
				for _, line := range writeAndKill(t, s.URL, time.Duration(random.IntN(150))*time.Millisecond) {
					word, rest, _ := strings.Cut(line, " ")
					mu.Lock()
					said[word] = append(said[word], rest)
					mu.Unlock()
				}
			}
		})
	}
	time.Sleep(500 * time.Millisecond)
	s.Kill()
	time.Sleep(200 * time.Millisecond)
	s.Start(t)
	writers.Wait()
	records, err := open(t, s.URL).Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	is := map[string]release.Record{}
	for _, r := range records {
		key := fmt.Sprint(r.ID, " ", r.Rollout.Operator)
		for other := range is {
			if strings.HasSuffix(other, " "+r.Rollout.Operator) {
				t.Errorf("%s and %s are the same rollout", other, key)
			}
		}
		is[key] = r
	}
	for _, key := range said["started"] {
		if _, ok := is[key]; !ok {
			t.Errorf("rollout %s was reported as started and is not there", key)
		}
	}
	for _, key := range said["finished"] {
		if r := is[key]; !r.Finished() {
			t.Errorf("rollout %s was reported as ended and is not", key)
		}
	}
	if len(said["started"]) < 4*kills {
		t.Errorf("only %d rollouts were started", len(said["started"]))
	}
	t.Logf("%d rollouts, %d reported as started, %d as ended, %d kills", len(records), len(said["started"]), len(said["finished"]), 4*kills)
}

// writeAndKill starts a writer, kills it some time after its first word, and
// returns what it said.
func writeAndKill(t *testing.T, url string, after time.Duration) (said []string) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestWriter$")
	cmd.Env = append(os.Environ(), "TEST_LEDGER_ETCD="+url)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	defer time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() }).Stop()
	for in := bufio.NewScanner(out); in.Scan(); {
		line, ours := strings.CutPrefix(in.Text(), "ledger ")
		if !ours {
			continue
		}
		if said = append(said, line); len(said) == 1 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
	}
	_ = cmd.Wait()
	return said
}
