package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"time"

	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/release"
)

// LocalConfig says where a service lives on this machine.
func LocalConfig(cfg *config.Config, out string) local.Config {
	l := cfg.Deploy.Local
	return local.Config{Name: cfg.Name, Front: l.Listen.AddrPort(), Out: out, Drain: l.Drain.Std()}
}

// RollbackTarget says from which version to which an operator's rollback would
// go; an empty to means the version that served before.
func RollbackTarget(j Job, to string) (from, target string, err error) {
	records, err := history(j.Out)
	if err != nil {
		return "", "", err
	}
	return rollbackTarget(records, to)
}

func rollbackTarget(records []release.Record, to string) (from, target string, err error) {
	now, ok := release.Running(records)
	if !ok {
		return "", "", errors.New("there is nothing to roll back: no version was promoted yet")
	}
	if to != "" {
		if to == now.Version {
			return "", "", fmt.Errorf("%s is the version that serves", to)
		}
		if _, ok := release.Find(records, to); !ok {
			return "", "", fmt.Errorf("%s was never promoted; sluice history lists what was", to)
		}
		return now.Version, to, nil
	}
	before, ok := release.Before(records)
	if !ok {
		return "", "", fmt.Errorf("there is no version before %s to go back to", now.Version)
	}
	return now.Version, before.Version, nil
}

// Rollback gives all traffic to an earlier version, on an operator's word and
// without a gate: the version before, or the one named by to. The version that
// served is drained and ended.
func Rollback(ctx context.Context, j Job, to string, report func(Event)) (*release.Record, error) {
	r := &Rollout{Job: j}
	err := Run(ctx, []Step{withdraw{r, to}, closing{r}}, report)
	return r.Record, err
}

// withdraw is the one step of an operator's rollback.
type withdraw struct {
	*Rollout
	to string
}

func (withdraw) String() string { return "rollback" }

func (s withdraw) Run(ctx context.Context) (string, error) {
	if _, _, err := RollbackTarget(s.Job, s.to); err != nil {
		return "", err // before anything is touched
	}
	if err := s.open(ctx); err != nil {
		return "", err
	}
	from, to, err := rollbackTarget(s.ledger.Records(), s.to)
	if err != nil {
		return "", err
	}
	rel, _, err := s.verify(to)
	if err != nil {
		return "", err
	}
	id, err := s.ledger.Start(release.Rollout{
		Name: s.Config.Name, Version: from, Previous: to, Env: s.Config.Deploy.Target, Operator: operator(), Started: time.Now(),
	})
	if err != nil {
		return "", err
	}
	cut, err := s.replace(ctx, rel)
	if err != nil {
		return "", errors.Join(err, s.ledger.Finish(id, release.Result{
			Outcome: release.Refused, Reason: fmt.Sprintf("%s still serves: %v", from, err), Ended: time.Now(),
		}))
	}
	err = s.ledger.Finish(id, release.Result{
		Outcome: release.RolledBack, Trigger: release.Operator, Reason: "rolled back by " + operator(), Ended: time.Now(),
	})
	records := s.ledger.Records()
	s.Record = &records[id-1]
	return list(fmt.Sprintf("%s serves again, %s drained and ended", to, from), cutText(cut)), err
}

// replace starts a version and makes it the stable one.
func (r *Rollout) replace(ctx context.Context, rel verifiedRelease) (cut int, err error) {
	if _, err := r.target.StartCanary(ctx, r.service(rel)); err != nil {
		return 0, err
	}
	if ctx.Err() != nil {
		_, err := r.target.RollBack(context.WithoutCancel(ctx))
		return 0, errors.Join(ctx.Err(), err)
	}
	return r.target.Promote(context.WithoutCancel(ctx))
}

// closing lets go of everything.
type closing struct{ *Rollout }

func (closing) String() string { return "close" }

func (s closing) Run(ctx context.Context) (string, error) { return s.End(ctx, nil) }

func (s closing) End(context.Context, error) (string, error) {
	if err := s.close(); err != nil {
		return "", err
	}
	return "", Skip{}
}

// operator is who runs this process.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "an unknown user"
}
