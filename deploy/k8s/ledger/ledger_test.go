package ledger

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// ledgers is a namespace of a test's own.
type ledgers struct {
	t    *testing.T
	cfg  *rest.Config
	api  *apiserver.Client
	name string
}

func newLedgers(t *testing.T, p *cluster.Plane) *ledgers {
	t.Helper()
	a, err := apiserver.New(p.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	l := &ledgers{t, p.Config, a, fmt.Sprintf("ledger-%d", time.Now().UnixNano())}
	l.create("/api/v1/namespaces", corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: l.name}})
	return l
}

func (l *ledgers) create(path string, object any) {
	l.t.Helper()
	if err := l.api.Create(l.t.Context(), path, object, nil); err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledgers) path() string { return "/api/v1/namespaces/" + l.name + "/configmaps" }

// stored is the ConfigMap as it is.
func (l *ledgers) stored() (m corev1.ConfigMap) {
	l.t.Helper()
	if err := l.api.Get(l.t.Context(), l.path()+"/shop-ledger", &m); err != nil {
		l.t.Fatal(err)
	}
	return m
}

// patch changes it as anybody could.
func (l *ledgers) patch(body string) {
	l.t.Helper()
	err := l.api.Do(l.t.Context(), apiserver.Call{Verb: http.MethodPatch, Path: l.path() + "/shop-ledger", Kind: "application/merge-patch+json", Body: []byte(body)})
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledgers) open() *release.Shared {
	l.t.Helper()
	log, err := Open(l.t.Context(), l.cfg, l.name, "shop")
	if err != nil {
		l.t.Fatal(err)
	}
	log.Patience = patient
	return log
}

func rollout(operator string) release.Rollout {
	return release.Rollout{Name: "shop", Version: "1.0.0", Operator: operator, Started: time.Now()}
}

func promoted() release.Result {
	return release.Result{Outcome: release.Promoted, Verdict: "pass", Ended: time.Now()}
}

func TestLedgerInAConfigMap(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	log, other := l.open(), l.open()
	if records, err := log.Records(t.Context()); err != nil || len(records) != 0 {
		t.Fatal(records, err)
	}
	if err := l.api.Get(t.Context(), l.path()+"/shop-ledger", nil); err == nil {
		t.Error("reading has made it")
	}
	id, err := log.Start(t.Context(), rollout(""))
	if err != nil {
		t.Fatal(err)
	}
	var running *release.RunningError
	if _, err := other.Start(t.Context(), rollout("")); !errors.As(err, &running) {
		t.Errorf("a second rollout: %v", err)
	}
	l.patch(`{"metadata":{"annotations":{"example.com/mine":"yes"}}}`)
	if err := other.Finish(t.Context(), id, promoted()); err != nil {
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
	var foreign *apiserver.ForeignError
	if _, err := Open(t.Context(), l.cfg, l.name, "shop"); !errors.As(err, &foreign) || !strings.Contains(foreign.Hint(), "sluice.dev/ledger=shop") {
		t.Errorf("got %v", err)
	}
	if m := l.stored(); len(m.Data) != 1 || m.Data["a"] != "b" {
		t.Errorf("it was changed: %v", m.Data)
	}
}

func TestLedgerDamaged(t *testing.T) {
	l := newLedgers(t, controlPlane(t))
	log := l.open()
	id, err := log.Start(t.Context(), rollout(""))
	if err != nil {
		t.Fatal(err)
	}
	m := l.stored()
	damaged := strings.Replace(m.Data[key], "1.0.0", "1.0.1", 1)
	l.patch(fmt.Sprintf(`{"data":{%q:%q}}`, key, damaged))
	_, opened := Open(t.Context(), l.cfg, l.name, "shop")
	for what, err := range map[string]error{"ending": log.Finish(t.Context(), id, promoted()), "opening": opened} {
		var corrupt *release.CorruptError
		if !errors.As(err, &corrupt) || corrupt.Line != 1 || !strings.Contains(corrupt.Path, l.name+"/shop-ledger") {
			t.Errorf("%s: got %v", what, err)
		}
	}
	if l.stored().Data[key] != damaged {
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
		log, err := Open(t.Context(), cfg, l.name, "shop")
		if err != nil {
			return err
		}
		id, err := log.Start(t.Context(), rollout(""))
		if err != nil {
			return err
		}
		return log.Finish(t.Context(), id, promoted())
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
			var denied *apiserver.ForbiddenError
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
		id, err := log.Start(t.Context(), rollout(""))
		end := promoted()
		end.Outcome, end.Verdict, end.Trigger, end.Reason = release.RolledBack, "fail", release.SLO, long
		if err == nil {
			err = log.Finish(t.Context(), id, end)
		}
		if err != nil || id != i+1 {
			t.Fatal(id, err)
		}
	}
	sum, err := log.Verify(t.Context())
	size := len(l.stored().Data[key])
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
	_, err := log.Start(t.Context(), rollout(""))
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
	id, err := log.Start(t.Context(), rollout(""))
	if err != nil || id != n+1 {
		t.Fatalf("with an API server that comes back: %d, %v", id, err)
	}
	if err := log.Finish(t.Context(), id, promoted()); err != nil {
		t.Fatal(err)
	}
}
