package pipeline

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/testenv"
)

// newSite is a workshop with a machine to deploy to.
func newSite(t *testing.T) *workshop {
	t.Helper()
	testenv.NeedRoot(t)
	w := newWorkshop(t)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		target, err := local.Open(ctx, LocalConfig(w.job.Config, w.job.Out))
		if err != nil {
			t.Errorf("opening to clean up: %v", err)
			return
		}
		if err := errors.Join(target.Down(ctx), target.Close()); err != nil {
			t.Errorf("cleaning up: %v", err)
		}
	})
	return w
}

// first makes v1.0.0 and rolls it out.
func (w *workshop) first() {
	w.t.Helper()
	w.mustMake("v1.0.0")
	if _, _, err := w.deploy(w.t.Context(), w.job, nil); err != nil {
		w.t.Fatal(err)
	}
	w.serves("v1.0.0")
}

// serves makes sure of the version that answers at the front.
func (w *workshop) serves(version string) {
	w.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + w.job.Config.Deploy.Local.Listen.AddrPort().String())
	if err != nil {
		w.t.Errorf("nobody answers: %v", err)
		return
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != version {
		w.t.Errorf("%q answers, want %s: %v", body, version, err)
	}
	if st, err := local.Look(w.job.Config.Name); err != nil || st.Version != version {
		w.t.Errorf("it looks as if %+v served, want %s: %v", st, version, err)
	}
}

// last is the newest entry of the ledger.
func (w *workshop) last() release.Record {
	w.t.Helper()
	list, err := history(w.job.Out)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("the ledger: %v, %v", list, err)
	}
	return list[len(list)-1]
}

// blind puts a program that sees nothing in the place of one of the probe's.
func blind(t *testing.T, loaded bpf.Loaded) {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer prog.Close()
	for _, p := range loaded.Programs {
		if p.Name == "egress" {
			l, err := link.NewFromID(link.ID(p.LinkID))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			if err := l.Update(prog); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("the probe has no program egress: %+v", loaded)
}

// Somebody replaces a program of the probe during a rollout: what it counts
// decides nothing, and the last good probe is put in place.
func TestAProbeThatIsReplacedDuringARolloutIsRestored(t *testing.T) {
	w := newSite(t)
	w.first()
	w.mustMake("v1.1.0")
	r, events, err := w.deploy(t.Context(), w.of("v1.1.0"), func(e Event, r *Rollout) {
		if e.Step == "gate" && e.Status == Started {
			blind(t, r.probe.Loaded())
		}
		if e.Step == "rollback" && e.Status == Done {
			if err := r.probe.Check(); err != nil {
				t.Errorf("what was restored is not what was verified: %v", err)
			}
		}
	})
	var verdict *VerdictError
	if !errors.As(err, &verdict) || verdict.Trigger != canary.HashMismatch || verdict.ExitCode() != gate.Invalid.ExitCode() {
		t.Errorf("the rollout ends with %v", err)
	}
	if e := events["rollback"]; e.Status != Done || !strings.Contains(e.Summary, "v1.0.0 serves") || !strings.Contains(e.Summary, "of v1.0.0 restored in ") || !strings.Contains(e.Summary, "self-test 5/5 requests counted") {
		t.Errorf("the rollback was %+v", e)
	}
	if r.Record == nil || r.Record.Outcome != release.RolledBack || r.Record.Trigger != release.Trigger(canary.HashMismatch) {
		t.Errorf("the ledger has %+v", r.Record)
	}
	w.serves("v1.0.0")
}

func TestAVersionThatShouldServeIsStartedAgainFirst(t *testing.T) {
	w := newSite(t)
	w.first()
	w.mustMake("v1.1.0")
	kill := func() {
		t.Helper()
		st, err := local.Look(w.job.Config.Name)
		if err != nil || st.PID == 0 {
			t.Fatalf("%+v, %v", st, err)
		}
		if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for began := st; st.PID == began.PID; {
			if st, err = local.Look(w.job.Config.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, tt := range map[string]struct{ fault, says string }{
		"a service that does not speak HTTP": {"deaf", "answers neither HTTP/1.1 nor HTTP/2 in the clear"},
		"a service that speaks TLS":          {"tls", "v1.1.0 speaks TLS, which the probe cannot read"},
	} {
		kill()
		_, events, err := w.deploy(t.Context(), w.of("v1.1.0", tt.fault), nil)
		var verdict *VerdictError
		if !errors.As(err, &verdict) || verdict.Outcome != gate.Invalid || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if e := events["rollback"]; e.Status != Done || !strings.Contains(e.Summary, "v1.0.0 serves") {
			t.Errorf("%s: the rollback was %+v", name, e)
		}
		if last := w.last(); last.Outcome != release.RolledBack || !strings.Contains(last.Reason, tt.says) {
			t.Errorf("%s: the ledger has %+v", name, last)
		}
		w.serves("v1.0.0") // it was started again, and stays
	}
	kill()
	w.write("v1.0.0", "no database")
	_, _, err := w.deploy(t.Context(), w.of("v1.1.0"), nil)
	var start *local.StartError
	if !errors.As(err, &start) || start.Version != "v1.0.0" || !strings.Contains(err.Error(), "starting the version that should serve: ") {
		t.Errorf("a version that cannot be started again: %v", err)
	}
	if err := os.RemoveAll(w.of("v1.0.0").Dir()); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.deploy(t.Context(), w.of("v1.1.0"), nil)
	var none *NoReleaseError
	if !errors.As(err, &none) || none.Version != "v1.0.0" || !strings.Contains(err.Error(), "the version that should serve, v1.0.0, cannot be started again: ") {
		t.Errorf("a version whose release is gone: %v", err)
	}
}

func TestARolloutThatIsInterruptedBeforeItHasTraffic(t *testing.T) {
	w := newSite(t)
	w.first()
	w.mustMake("v1.1.0")
	for name, tt := range map[string]struct {
		at   Event                     // when the operator interrupts,
		wait func(ctx context.Context) // after this
		exit int                       // of the error, if it is a verdict
	}{
		"while the version starts": {Event{Step: "canary", Status: Started}, func(ctx context.Context) {
			for ctx.Err() == nil { // its log is there when its process is
				if _, err := os.Stat(filepath.Join(w.job.Out, "logs", "v1.1.0.log")); err == nil {
					return
				}
				time.Sleep(time.Millisecond)
			}
		}, 130},
		"before it starts": {Event{Step: "load", Status: Done}, nil, 0},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := w.deploy(ctx, w.of("v1.1.0", "silent"), func(e Event, _ *Rollout) {
			switch {
			case e.Step != tt.at.Step || e.Status != tt.at.Status:
			case tt.wait == nil:
				cancel()
			default:
				go func() { tt.wait(ctx); cancel() }()
			}
		})
		cancel()
		var verdict *VerdictError
		if err == nil || errors.As(err, &verdict) != (tt.exit != 0) || verdict != nil && verdict.ExitCode() != tt.exit {
			t.Errorf("%s: it ends with %v", name, err)
		}
		if last := w.last(); last.Version != "v1.1.0" || last.Outcome != release.RolledBack || last.Trigger != release.Operator || last.Reason != interrupted {
			t.Errorf("%s: the ledger has %+v", name, last)
		}
		w.serves("v1.0.0")
	}
}

// The probe of a release obeys the rules, is signed, and yet the kernel does not
// take it: the release never gets traffic.
func TestAProbeThatTheKernelRefuses(t *testing.T) {
	w := newSite(t)
	object := probe.Object()
	file, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		t.Fatal(err)
	}
	for _, section := range file.Sections {
		if section.Type == elf.SHT_PROGBITS && strings.HasPrefix(section.Name, "cgroup_skb/") {
			binary.LittleEndian.PutUint64(object[section.Offset:], 0x0100a079) // r0 = *(u64 *)(r10 + 256): behind the stack
			break
		}
	}
	w.write("probe.o", string(object))
	w.job.Config.BPF.Object = filepath.Join(w.dir, "probe.o")
	w.mustMake("v1.0.0")
	_, events, err := w.deploy(t.Context(), w.job, nil)
	var refused *bpf.LoadError
	if !errors.As(err, &refused) {
		t.Errorf("it ends with %v", err)
	}
	if e, ok := events["canary"]; ok {
		t.Errorf("it was started: %+v", e)
	}
	if last := w.last(); last.Outcome != release.Refused || last.Verdict != gate.Invalid.String() || last.Reason == "" {
		t.Errorf("the ledger has %+v", last)
	}
	if st, err := local.Look(w.job.Config.Name); err != nil || st.Version != "" {
		t.Errorf("%+v serves: %v", st, err)
	}
}

func TestARollbackToAVersionThatDoesNotStartChangesNothing(t *testing.T) {
	w := newSite(t)
	w.mustMake("v0.9.0")
	w.first()
	enter(t, w.job, release.Rollout{Version: "v0.9.0", Previous: "v1.0.0"}, release.Result{Outcome: release.Promoted})
	enter(t, w.job, release.Rollout{Version: "v0.9.0", Previous: "v1.0.0", Operator: "root"}, release.Result{Outcome: release.RolledBack, Trigger: release.Operator})
	w.write("v0.9.0", "no database")
	_, err := Rollback(t.Context(), w.job, "v0.9.0", func(Event) {})
	var start *local.StartError
	if !errors.As(err, &start) || !strings.Contains(err.Error(), "no database") {
		t.Errorf("it ends with %v", err)
	}
	last := w.last()
	if last.Outcome != release.Refused || last.Operator == "" || !strings.HasPrefix(last.Reason, "v1.0.0 still serves: ") {
		t.Errorf("the ledger has %+v", last)
	}
	w.serves("v1.0.0")
	if err := os.RemoveAll(w.of("v0.9.0").Dir()); err != nil {
		t.Fatal(err)
	}
	_, err = Rollback(t.Context(), w.job, "v0.9.0", func(Event) {})
	var none *NoReleaseError
	if !errors.As(err, &none) {
		t.Errorf("to a version whose release is gone: %v", err)
	}
	w.serves("v1.0.0")
}
