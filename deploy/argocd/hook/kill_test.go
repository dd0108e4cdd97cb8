package hook

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/sluice-cd/sluice/internal/release"
)

// process is a hook in a process of its own.
type process struct {
	*exec.Cmd
	log   bytes.Buffer
	lines *bufio.Scanner
}

// spawn starts a hook as pod runs it, with the hooks' rights replaced by all.
func (w *yard) spawn(name, pod string) *process {
	w.t.Helper()
	p := &process{Cmd: exec.CommandContext(w.t.Context(), os.Args[0])}
	p.Env = append(
		os.Environ(), "TEST_HOOK="+name, "TEST_SETTINGS="+filepath.Dir(w.s.PublicKey), "TEST_KUBECONFIG="+w.plane.Kubeconfig,
		"POD_NAME="+pod, "SLUICE_IMAGE="+w.s.Image,
	)
	out, err := p.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	p.lines = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	return p
}

// until reads the log up to a line; without one, to its end.
func (p *process) until(text string) bool {
	for p.lines.Scan() {
		p.log.WriteString(p.lines.Text() + "\n")
		if text != "" && strings.Contains(p.lines.Text(), text) {
			return true
		}
	}
	return false
}

// signal sends a signal after a line of the log, and returns the exit status, -1
// for one that was killed.
func (p *process) signal(t *testing.T, s syscall.Signal, after string) int {
	t.Helper()
	if !p.until(after) {
		t.Fatalf("the hook never says %q:\n%s", after, p.log.String())
	}
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	return p.end(t)
}

func (p *process) end(t *testing.T) int {
	t.Helper()
	p.until("")
	err := p.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("%s", p.log.String())
	return p.ProcessState.ExitCode()
}

func TestAKilledGateBeginsAnew(t *testing.T) {
	for name, tt := range map[string]struct{ after, traffic string }{
		"before the canary is ready":   {"rollout 1:", ""},
		"when it is ready":             {"the canary is ready", ""},
		"on the first step":            {"canary  10 %", ""},
		"on the last step":             {"canary  50 %", ""},
		"on the last step, by weights": {"canary  50 %", "traffic: httproute\n    gateway: infra/web"},
		"while the header leads to it": {"requests with", "traffic: httproute\n    gateway: infra/web\n    header: \"x-env: canary\""},
		"with the verdict in hand":     {"pass: ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newYard(t, tt.traffic)
			if code := w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, tt.after); code != -1 {
				t.Fatalf("it ended by itself with %d", code)
			}
			if v := w.want("sync", 0); v.Verdict != "pass" {
				t.Errorf("verdict %s", v.Sentence())
			}
			if r := w.records(); len(r) != 1 || r[0].Finished() {
				t.Errorf("records %+v", r)
			}
			w.image("stable", ref("1.1.0"))
			w.want("postsync", 0)
			if r := w.last(); r.Outcome != release.Promoted || r.Verdict != "pass" {
				t.Errorf("recorded as %+v", r)
			}
		})
	}
}

// TestAResumedRolloutThatCannotGoOnIsNoPass: the first step has passed, and the
// weights of the next one cannot be set.
func TestAResumedRolloutThatCannotGoOnIsNoPass(t *testing.T) {
	w := newYard(t, byWeights)
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "the canary is ready")
	gate := w.spawn("sync", "shop-gate-1")
	if !gate.until("canary  10 %") {
		t.Fatal(gate.log.String())
	}
	w.patch(w.route(), map[string]any{"spec": map[string]any{"rules": []any{map[string]any{"backendRefs": []any{
		map[string]any{"name": "shop-stable", "port": 80, "weight": 7}, map[string]any{"name": "shop-canary", "port": 80, "weight": 3},
	}}}}})
	if code := gate.end(t); code != 1 {
		t.Errorf("it ends with %d, want 1", code)
	}
	w.said("rolled-back", "could not be carried out")
	h, err := newHook("sync", w.s, w.cfg, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	left, err := h.lastVerdict(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if end, err := h.endOf(t.Context(), w.last().Rollout, left); err != nil || end.Trigger != release.Environment {
		t.Errorf("if no hook follows it ends as %+v, %v", end, err)
	}
	w.want("syncfail", 0)
	w.atRest()
	if r := w.last(); r.Outcome != release.RolledBack || r.Trigger != release.Environment || r.Verdict != "" {
		t.Errorf("recorded as %+v", r)
	}
	w.sync()
	w.want("presync", 0) // the release is not to blame
}

func TestSyncFailPutsGitRightTheNextTime(t *testing.T) {
	w := newYard(t, "")
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "canary  10 %")
	url := w.application().Spec.Source.RepoURL
	w.gitAt("http://127.0.0.1:1/shop.git")
	w.want("syncfail", exitTransient)
	w.gitAt(url)
	w.want("syncfail", 0)
	if subject, _ := w.head(); subject != "revert: shop 1.1.0 (rolled-back)" {
		t.Errorf("git: %q", subject)
	}
}

func TestAKilledGateThatIsNotRepeatedLeavesNothing(t *testing.T) {
	w := newYard(t, "")
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "canary  10 %")
	if w.pods("canary") == 0 {
		t.Fatal("the canary had no pod when the gate was killed")
	}
	w.want("syncfail", 0)
	w.atRest()
	if r := w.last(); r.Outcome != release.RolledBack || r.Trigger != release.Death || r.Verdict != "" {
		t.Errorf("recorded as %+v", r)
	}
	if subject, _ := w.head(); subject != "revert: shop 1.1.0 (rolled-back)" {
		t.Errorf("git: %q", subject)
	}
	w.said("rolled-back", "not the release's fault")
}

func TestANewSyncClosesWhatNoHookClosed(t *testing.T) {
	w := newYard(t, "")
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "canary  10 %")
	w.s.Image = ref("1.2.0")
	w.sync()
	w.want("presync", 0)
	w.want("sync", 0)
	r := w.records()
	if len(r) != 2 || r[0].Trigger != release.Death || r[1].Version != "1.2.0" || r[1].Finished() {
		t.Errorf("records %+v", r)
	}
}

func TestAnEvictedGateTakesTheTrafficOffAndSaysNothing(t *testing.T) {
	w := newYard(t, "")
	begin := time.Now()
	if code := w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGTERM, "canary  10 %"); code != exitInterrupted {
		t.Errorf("exit status %d, want %d", code, exitInterrupted)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("it takes %v to end", took)
	}
	w.atRest()
	if r := w.last(); r.Finished() {
		t.Errorf("an interrupt is recorded: %+v", r)
	}
	if note := w.application().Annotations[NoteVerdict]; note != "" {
		t.Errorf("the Application has the verdict %q", note)
	}
	w.want("sync", 0)
}

func TestWithoutTimeLeftThereIsNoPass(t *testing.T) {
	w := newYard(t, "")
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "the canary is ready")
	time.Sleep(10 * time.Second)
	if v := w.want("sync", 3); !strings.Contains(v.Reason, "too short") {
		t.Error(v.Sentence())
	}
	w.atRest()
}

func TestOfTwoGatesOneWaits(t *testing.T) {
	w := newYard(t, "")
	for _, name := range []string{"shop-gate-0", "shop-gate-1"} {
		w.plane.Apply(t, w.s.namespace(), "apiVersion: v1\nkind: Pod\nmetadata: {name: "+name+"}\nspec: {containers: [{name: hook, image: \"example.com/hook:1\"}]}\n")
	}
	one := w.spawn("sync", "shop-gate-0")
	if !one.until("rollout 1:") {
		t.Fatal(one.log.String())
	}
	two := w.spawn("sync", "shop-gate-1")
	if !two.until("waiting for shop-gate-0") {
		t.Fatal(two.log.String())
	}
	if a, b := one.end(t), two.end(t); a != 0 || b != 0 {
		t.Errorf("they end with %d and %d", a, b)
	}
	if !strings.Contains(two.log.String(), "rollout 1 was decided by an earlier run") || len(w.records()) != 1 {
		t.Errorf("the second one judges again:\n%s", two.log.String())
	}
}

func TestALockOfADeadPodIsFree(t *testing.T) {
	w := newYard(t, "")
	w.plane.Apply(t, w.s.namespace(), "apiVersion: v1\nkind: Pod\nmetadata: {name: shop-gate-0}\nspec: {containers: [{name: hook, image: \"example.com/hook:1\"}]}\n")
	w.spawn("sync", "shop-gate-0").signal(t, syscall.SIGKILL, "the canary is ready")
	status := map[string]any{"status": map[string]any{"phase": core.PodFailed, "reason": "Evicted"}}
	if err := w.admin.mergeStatus(t.Context(), object{pods, w.s.namespace(), "shop-gate-0"}, status); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	w.want("postsync", exitUsage) // the stable version has not got the image
	if took := time.Since(begin); took > lockLife/2 {
		t.Errorf("the lock was free after %v", took)
	}
	w.atRest()
}

func TestKilledHooksCloseTheBooksOnce(t *testing.T) {
	for name, after := range map[string]string{"when traffic is off": "traffic to", "when git is reverted": "git reverted"} {
		t.Run("syncfail, "+name, func(t *testing.T) {
			w := newYard(t, "")
			w.set(func() { w.behave = failing })
			w.want("sync", 1)
			w.spawn("syncfail", "shop-syncfail-0").signal(t, syscall.SIGKILL, after)
			w.want("syncfail", 0)
			if r := w.records(); len(r) != 1 || r[0].Trigger != release.SLO || r[0].Outcome != release.RolledBack {
				t.Errorf("records %+v", r)
			}
			if n := w.command(w.git, "rev-list", "--count", w.bad+"..origin/main"); n != "0" { // as fetched before
				t.Errorf("%s commits before the fetch", n)
			}
			w.head()
			if n := w.command(w.git, "rev-list", "--count", w.bad+"..origin/main"); n != "1" {
				t.Errorf("%s revert commits, want 1", n)
			}
		})
	}
	t.Run("postsync", func(t *testing.T) {
		w := newYard(t, "")
		w.want("sync", 0)
		w.image("stable", ref("1.1.0"))
		w.spawn("postsync", "shop-postsync-0").signal(t, syscall.SIGKILL, "traffic to")
		w.want("postsync", 0)
		if r := w.records(); len(r) != 1 || r[0].Outcome != release.Promoted {
			t.Errorf("records %+v", r)
		}
	})
}
