package k8s

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// ledgers is a namespace of a test's own.
type ledgers struct {
	t    *testing.T
	cfg  *rest.Config
	api  *api
	name string
}

func newLedgers(t *testing.T, p *cluster.Plane) *ledgers {
	t.Helper()
	a, err := newAPI(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.close)
	l := &ledgers{t, p.Config, a, fmt.Sprintf("ledger-%d", time.Now().UnixNano())}
	l.create("/api/v1/namespaces", corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.name}})
	return l
}

func (l *ledgers) create(path string, object any) {
	l.t.Helper()
	if err := l.api.create(l.t.Context(), path, object, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledgers) path() string { return "/api/v1/namespaces/" + l.name + "/configmaps" }

// stored is the ConfigMap as it is.
func (l *ledgers) stored() (m corev1.ConfigMap) {
	l.t.Helper()
	if err := l.api.get(l.t.Context(), l.path()+"/shop-ledger", &m); err != nil {
		l.t.Fatal(err)
	}
	return m
}

// patch changes it as anybody could.
func (l *ledgers) patch(body string) {
	l.t.Helper()
	err := l.api.do(l.t.Context(), call{verb: http.MethodPatch, path: l.path() + "/shop-ledger", kind: "application/merge-patch+json", body: []byte(body)})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledgers) open() *release.Shared {
	l.t.Helper()
	log, err := OpenLedger(l.t.Context(), l.cfg, l.name, "shop")
	if err != nil {
		l.t.Fatal(err)
	}
	log.Patience = patient
	return log
}

func ledgerRollout(operator string) release.Rollout {
	return release.Rollout{Name: "shop", Version: "1.0.0", Operator: operator, Started: time.Now()}
}

func ledgerEnd() release.Result {
	return release.Result{Outcome: release.Promoted, Verdict: "pass", Ended: time.Now()}
}

func TestLedgerInAConfigMap(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	log, other := l.open(), l.open()
	if records, err := log.Records(t.Context()); err != nil || len(records) != 0 {
		t.Fatal(records, err)
	}
	if err := l.api.get(t.Context(), l.path()+"/shop-ledger", nil); err == nil {
		t.Error("reading has made it")
	}
	id, err := log.Start(t.Context(), ledgerRollout(""))
	if err != nil {
		t.Fatal(err)
	}
	var running *release.RunningError
	if _, err := other.Start(t.Context(), ledgerRollout("")); !errors.As(err, &running) {
		t.Errorf("a second rollout: %v", err)
	}
	l.patch(`{"metadata":{"annotations":{"example.com/mine":"yes"}}}`)
	if err := other.Finish(t.Context(), id, ledgerEnd()); err != nil {
		t.Fatal(err)
	}
	records, err := log.Records(t.Context())
	if err != nil || len(records) != 1 || records[0].Outcome != release.Promoted {
		t.Errorf("%+v, %v", records, err)
	}
	m := l.stored()
	for label, want := range map[string]string{
		"sluice.dev/ledger": "shop", "app.kubernetes.io/managed-by": "sluice", "app.kubernetes.io/part-of": "shop",
	} {
		if m.Labels[label] != want {
			t.Errorf("label %s is %q", label, m.Labels[label])
		}
	}
	if m.Annotations["example.com/mine"] != "yes" {
		t.Error("somebody's annotation is gone")
	}
}

func TestLedgerOfSomebodyElse(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	l.create(l.path(), corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "shop-ledger"}, Data: map[string]string{"a": "b"}})
	var foreign *ForeignError
	if _, err := OpenLedger(t.Context(), l.cfg, l.name, "shop"); !errors.As(err, &foreign) || !strings.Contains(foreign.Hint(), "sluice.dev/ledger=shop") {
		t.Errorf("got %v", err)
	}
	if m := l.stored(); len(m.Data) != 1 || m.Data["a"] != "b" {
		t.Errorf("it was changed: %v", m.Data)
	}
}

func TestLedgerDamaged(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	log := l.open()
	id, err := log.Start(t.Context(), ledgerRollout(""))
	if err != nil {
		t.Fatal(err)
	}
	m := l.stored()
	damaged := strings.Replace(m.Data[ledgerKey], "1.0.0", "1.0.1", 1)
	l.patch(fmt.Sprintf(`{"data":{%q:%q}}`, ledgerKey, damaged))
	_, opened := OpenLedger(t.Context(), l.cfg, l.name, "shop")
	for what, err := range map[string]error{"ending": log.Finish(t.Context(), id, ledgerEnd()), "opening": opened} {
		var corrupt *release.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Line != 1 || !strings.Contains(corrupt.Path, l.name+"/shop-ledger") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if l.stored().Data[ledgerKey] != damaged {
		t.Error("damage was repaired")
	}
}

// TestLedgerPermissions: what lacks is named, one after the other.
func TestLedgerPermissions(t *testing.T) {
	p := controlPlane(t)
	l := newLedgers(t, p)
	const name = "ledger-clerk"
	cfg := p.User(t, name)
	allow := func(n int, rule rbacv1.PolicyRule) {
		role := fmt.Sprint("clerk-", n)
		l.create("/apis/rbac.authorization.k8s.io/v1/namespaces/"+l.name+"/roles", rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Name: role}, Rules: []rbacv1.PolicyRule{rule},
		})
		l.create("/apis/rbac.authorization.k8s.io/v1/namespaces/"+l.name+"/rolebindings", rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: name}},
		})
	}
	try := func() error {
		log, err := OpenLedger(t.Context(), cfg, l.name, "shop")
		if err != nil {
			return err
		}
		id, err := log.Start(t.Context(), ledgerRollout(""))
		if err != nil {
			return err
		}
		return log.Finish(t.Context(), id, ledgerEnd())
	}
	for n, step := range []struct {
		want string
		rule rbacv1.PolicyRule
	}{
		{"get configmaps shop-ledger", rbacv1.PolicyRule{Verbs: []string{"get", "patch"}, ResourceNames: []string{"shop-ledger"}}},
		{"create configmaps", rbacv1.PolicyRule{Verbs: []string{"create"}}},
	} {
		// What was allowed the API server learns a little later.
		for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
			var denied *ForbiddenError
			err := try()
			if errors.As(err, &denied) && strings.HasSuffix(denied.Error(), step.want) {
				break
			}
			if err == nil || time.Since(begin) > patient {
				t.Fatalf("%v; want %q", err, step.want)
			}
		}
		step.rule.APIGroups, step.rule.Resources = []string{""}, []string{"configmaps"}
		allow(n, step.rule)
	}
	err := try()
	for begin := time.Now(); err != nil && time.Since(begin) < patient; err = try() {
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestLedgerFull writes more than a ConfigMap takes.
func TestLedgerFull(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	log := l.open()
	long := strings.Repeat("é", 30<<10)
	for i := range 22 {
		id, err := log.Start(t.Context(), ledgerRollout(""))
		end := ledgerEnd()
		end.Outcome, end.Verdict, end.Trigger, end.Reason = release.RolledBack, "fail", release.SLO, long
		if err == nil {
			err = log.Finish(t.Context(), id, end)
		}
		if err != nil || id != i+1 {
			t.Fatal(id, err)
		}
	}
	sum, err := log.Verify(t.Context())
	size := len(l.stored().Data[ledgerKey])
	if err != nil || sum.Cut == 0 || size > 900_000 || size < 500_000 {
		t.Errorf("%d bytes, %+v, %v", size, sum, err)
	}
	t.Logf("%d bytes in %d lines, %d cut off", size, sum.Lines, sum.Cut)
}

func TestLedgerWhileTheAPIServerIsAway(t *testing.T) {
	p := cluster.ControlPlane(t)
	l := newLedgers(t, p)
	for n := range testenv.Chaos(t, testenv.NoAPIServer, 1) {
		l.away(p, n)
	}
}

// away stops the API server, is refused a rollout, and gets its number when the
// API server is back.
func (l *ledgers) away(p *cluster.Plane, n int) {
	t, log := l.t, l.open()
	p.Stop()
	log.Patience = time.Second
	begin := time.Now()
	_, err := log.Start(t.Context(), ledgerRollout(""))
	var t1 interface{ Temporary() bool }
	if !errors.As(err, &t1) || !t1.Temporary() || time.Since(begin) > 15*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
	log.Patience = patient
	var back sync.WaitGroup
	back.Go(func() {
		time.Sleep(time.Second)
		if err := p.Start(t.Context()); err != nil {
			t.Error(err)
		}
	})
	defer back.Wait()
	id, err := log.Start(t.Context(), ledgerRollout(""))
	if err != nil || id != n+1 {
		t.Fatalf("with an API server that comes back: %d, %v", id, err)
	}
	if err := log.Finish(t.Context(), id, ledgerEnd()); err != nil {
		t.Fatal(err)
	}
}

// TestLedgerWriter is the process that TestLedgerKilled kills.
func TestLedgerWriter(t *testing.T) {
	kubeconfig, namespace := os.Getenv("TEST_LEDGER_KUBECONFIG"), os.Getenv("TEST_LEDGER_NAMESPACE")
	if kubeconfig == "" {
		return
	}
	cfg, err := Connect(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; err == nil; n++ {
		var log *release.Shared
		if log, err = OpenLedger(t.Context(), cfg, namespace, "shop"); err != nil {
			break
		}
		var id int
		who := fmt.Sprintf("%d-%d", os.Getpid(), n)
		if id, err = log.Start(t.Context(), ledgerRollout(who)); err != nil {
			break
		}
		fmt.Println("ledger started", id, who)
		if err = log.Finish(t.Context(), id, ledgerEnd()); err == nil {
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
