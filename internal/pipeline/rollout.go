package pipeline

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/bpf"
	"github.com/sluice-cd/sluice/bpf/probe"
	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Rollout is what the steps of the second half share: one release on its way
// to its target.
type Rollout struct {
	Job
	OnLook func(canary.Look) // told after every look of the gate; may be nil

	ledger  *release.Ledger
	target  *local.Target
	probe   *probe.Probe
	release verifiedRelease
	arm     *local.Arm
	started release.Rollout
	result  canary.Result
	events  []verdict.Happening

	began   bool            // the ledger knows of it
	refused bool            // it never got any traffic
	first   bool            // nothing to compare with
	Serving bool            // nothing to do: this very release serves
	Record  *release.Record // how it ended; nil if nothing was rolled out
}

// interrupted is why a rollout ended that a person stopped.
const interrupted = "interrupted by the operator"

func (r *Rollout) happened(format string, args ...any) {
	r.events = append(r.events, verdict.Happening{At: time.Now(), Text: fmt.Sprintf(format, args...)})
}

// VerdictError is how a rollout ends that was not promoted.
type VerdictError struct {
	Outcome gate.Outcome
	Trigger canary.Trigger
	Reason  string
}

func (e *VerdictError) Error() string {
	if e.Trigger == canary.Operator {
		return e.Reason
	}
	return e.Outcome.String() + ": " + e.Reason
}

// ExitCode is that of the verdict; an interrupt has the shell's.
func (e *VerdictError) ExitCode() int {
	if e.Trigger == canary.Operator {
		return 130
	}
	return e.Outcome.ExitCode()
}

// NotRootError means that this process may not do what the target local takes.
type NotRootError struct{}

func (*NotRootError) Error() string {
	return "the target local needs root: control groups, eBPF and the sockets of other processes"
}

// Hint says what to do about it.
func (*NotRootError) Hint() string { return "run it with sudo; sluice doctor says what is missing" }

// CheckPrivileges says, before anything is built, that this user cannot roll
// out: a *NotRootError.
func CheckPrivileges() error {
	if os.Geteuid() != 0 {
		return &NotRootError{}
	}
	return nil
}

// Load verifies a release as it lies in the out folder and loads its probe.
type Load struct{ *Rollout }

func (Load) String() string { return "load" }

// Run takes the service over, verifies manifest, files and signatures, and only
// then lets anything reach the kernel.
func (s Load) Run(ctx context.Context) (string, error) {
	if err := s.open(ctx); err != nil {
		return "", err
	}
	rel, object, err := s.verify(s.Version)
	if err != nil {
		return "", err
	}
	s.release = rel
	if s.Serving = s.serves(); s.Serving {
		return "", Skip{fmt.Sprintf("%s serves already", s.Version)}
	}
	if err := s.begin(); err != nil {
		return "", err
	}
	if s.probe, err = loadProbe(object, rel.object(), s.target.Group()); err != nil {
		s.refused = true
		return "", err
	}
	s.happened("probe %.12s verified, loaded and attached", bare(string(rel.object())))
	return fmt.Sprintf("signature and %d digests hold, probe %.12s attached", len(rel.Files()), bare(string(rel.object()))), nil
}

// open takes the ledger and the service over and closes what an earlier run
// left unfinished.
func (r *Rollout) open(ctx context.Context) (err error) {
	if err := CheckPrivileges(); err != nil {
		return err
	}
	if r.target, err = local.Open(ctx, LocalConfig(r.Config, r.Out)); err != nil {
		return err
	}
	if r.ledger, err = release.OpenLedger(ledgerPath(r.Out)); err != nil {
		return err
	}
	return closeUnfinished(r.ledger, r.target)
}

// closeUnfinished records how rollouts ended whose sluice died.
func closeUnfinished(ledger *release.Ledger, target *local.Target) error {
	serves := ""
	if s := target.Stable(); s != nil {
		serves = s.Version
	}
	for _, u := range ledger.Unfinished() {
		if err := ledger.Finish(u.ID, unfinished(u, serves, time.Now())); err != nil {
			return err
		}
	}
	return nil
}

// unfinished is how a rollout ended whose sluice died, seen from the version
// that serves now: that one was promoted, any other was taken back by
// local.Open. An operator's rollback has its names the other way round.
func unfinished(u release.Rollout, serves string, now time.Time) release.Result {
	switch {
	case u.Operator != "" && serves == u.Previous:
		return release.Result{
			Outcome: release.RolledBack, Trigger: release.Operator, Ended: now,
			Reason: "sluice died after the rollback; the next run recorded it",
		}
	case u.Operator != "":
		return release.Result{
			Outcome: release.Refused, Trigger: release.Crash, Ended: now,
			Reason: "sluice died during the rollback; nothing changed",
		}
	case serves == u.Version:
		return release.Result{
			Outcome: release.Promoted, Verdict: gate.Pass.String(), Ended: now,
			Reason: "sluice died after the promotion; the next run recorded it",
		}
	}
	return release.Result{
		Outcome: release.RolledBack, Verdict: gate.Invalid.String(), Trigger: release.Crash, Ended: now,
		Reason: "sluice died during the rollout; the next run took the traffic back",
	}
}

// begin enters the rollout into the ledger.
func (r *Rollout) begin() error {
	r.started = release.Rollout{
		Name: r.Config.Name, Version: r.Version, Digest: r.release.digest, Image: r.release.Image,
		Env: r.Config.Deploy.Target, Commit: r.Commit, Started: time.Now(),
	}
	if r.release.Object != nil {
		r.started.Object = string(r.release.object())
	}
	if last, ok := release.Running(r.ledger.Records()); ok {
		r.started.Previous = last.Version
	}
	id, err := r.ledger.Start(r.started)
	r.started.ID, r.began = id, err == nil
	return err
}

// serves reports whether this very release is the stable one and runs the way
// it would be run now.
func (r *Rollout) serves() bool {
	s := r.target.Stable()
	return s != nil && s.SHA256 == r.release.native.SHA256 && s.Version == r.Version && s.SameRun(r.service(r.release))
}

// service is how a verified release is run on this machine: the way its manifest
// says. What this rollout adds is for its own release only, not for a version
// that is started again.
func (r *Rollout) service(rel verifiedRelease) local.Service {
	cfg := r.Config.Service
	args, env := slices.Clone(rel.Args), map[string]string{}
	maps.Copy(env, rel.Env)
	if rel.Version == r.Version {
		args = append(args, r.Args...)
		maps.Copy(env, r.Env)
	}
	return local.Service{
		Version: rel.Version, SHA256: rel.native.SHA256,
		Binary: filepath.Join(r.Out, "releases", rel.Version, filepath.FromSlash(rel.native.Path)),
		Args:   args, Env: env,
		Dir: r.Config.Build.Dir, Log: filepath.Join(r.Out, "logs", rel.Version+".log"),
		Port: cfg.Port, Health: cfg.Health, Start: cfg.Start.Std(), Stop: cfg.Stop.Std(),
	}
}

// loadProbe loads a verified object and attaches it to the group that holds
// every version of the service.
func loadProbe(object []byte, want bpf.Digest, group string) (*probe.Probe, error) {
	p, err := probe.Load(object, want, probe.Options{})
	if err != nil {
		return nil, err
	}
	if err := p.Attach(group); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}
