package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/release"
)

// Settle makes the release the stable version, or takes it back, and ends the
// version that lost. It runs whatever happened before.
type Settle struct{ *Rollout }

func (s Settle) String() string {
	if s.result.Promote {
		return "promote"
	}
	return "rollback"
}

// Run is End without a failure.
func (s Settle) Run(ctx context.Context) (string, error) { return s.End(ctx, nil) }

// End leaves one version in charge.
func (s Settle) End(ctx context.Context, _ error) (string, error) {
	if s.arm == nil {
		return "", Skip{}
	}
	if s.result.Promote {
		return s.promote(ctx)
	}
	begin := time.Now()
	cut, err := s.target.RollBack(ctx)
	if err != nil {
		return "", err
	}
	s.happened("%s drained and ended", s.Version)
	restored := ""
	if s.result.Trigger == canary.HashMismatch {
		if restored, err = s.restore(ctx); err != nil {
			return "", err
		}
		s.happened("%s", restored)
	}
	stays := "nothing serves"
	if stable := s.target.Stable(); stable != nil {
		stays = stable.Version + " serves"
	}
	return list(stays, fmt.Sprintf("%s ended in %v", s.Version, time.Since(begin).Round(time.Millisecond)), cutText(cut), restored), nil
}

func (s Settle) promote(ctx context.Context) (string, error) {
	old := ""
	if stable := s.target.Stable(); stable != nil {
		old = stable.Version
	}
	cut, err := s.target.Promote(ctx)
	if err != nil {
		// What counts is who is in charge, also when the old version could
		// not be ended.
		stable := s.target.Stable()
		s.result.Promote = stable != nil && stable.PID == s.arm.PID
		return "", err
	}
	s.happened("%s is stable", s.Version)
	if old == "" {
		return s.Version + " serves", nil
	}
	s.happened("%s drained and ended", old)
	return list(fmt.Sprintf("%s serves, %s drained and ended", s.Version, old), cutText(cut)), nil
}

// restore replaces what is loaded by the object of the version that serves,
// verified again, and shows that it counts.
func (r *Rollout) restore(ctx context.Context) (string, error) {
	begin := time.Now()
	last, ok := release.Running(r.ledger.Records())
	if !ok {
		return "", errors.New("restoring the probe: the ledger knows no good version")
	}
	rel, object, err := r.verify(last.Version)
	if err != nil {
		return "", fmt.Errorf("restoring the probe: %w", err)
	}
	if err := r.probe.Close(); err != nil {
		return "", fmt.Errorf("restoring the probe: %w", err)
	}
	if r.probe, err = loadProbe(object, rel.object(), r.target.Group()); err != nil {
		return "", fmt.Errorf("restoring the probe: %w", err)
	}
	stable := r.target.Stable()
	counted, err := r.counts(ctx, stable)
	if err != nil {
		return "", fmt.Errorf("restoring the probe: %w", err)
	}
	if err := r.probe.Check(); err != nil {
		return "", fmt.Errorf("restoring the probe: %w", err)
	}
	return fmt.Sprintf("last good probe %.12s of %s restored in %v (%s)",
		bare(string(rel.object())), last.Version, time.Since(begin).Round(time.Millisecond), counted), nil
}

func cutText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d connections were still open after the drain time", n)
}
