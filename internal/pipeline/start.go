package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/deploy/local"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/release"
)

// Start starts the release beside the stable version. It gets no traffic yet.
type Start struct{ *Rollout }

func (Start) String() string { return "canary" }

// Run makes sure that the last good version serves, starts the new one and
// tests the probe with requests of its own.
func (s Start) Run(ctx context.Context) (string, error) {
	if !s.began {
		return "", Skip{}
	}
	revived, err := s.revive(ctx)
	if err != nil {
		return "", err
	}
	s.first = s.target.Stable() == nil
	svc := s.service(s.release)
	begin := time.Now()
	if s.arm, err = s.target.StartCanary(ctx, svc); err != nil {
		return "", s.notStarted(ctx, err)
	}
	ready := time.Since(begin)
	s.happened("%s is ready after %v", s.Version, ready.Round(time.Millisecond))
	tested, err := s.counts(ctx, s.arm)
	if err != nil {
		s.result.Verdict.Outcome, s.result.Reason = gate.Invalid, err.Error()
		return "", &VerdictError{Outcome: gate.Invalid, Reason: err.Error()}
	}
	return list(revived, fmt.Sprintf("%s ready in %v", s.Version, ready.Round(time.Millisecond)), tested), nil
}

// revive starts the version that the ledger calls good, if it should serve and
// does not: after a reboot, or when it crashed.
func (s Start) revive(ctx context.Context) (string, error) {
	last, ok := release.Running(s.ledger.Records())
	if !ok || s.target.Stable() != nil {
		return "", nil
	}
	rel, _, err := s.verify(last.Version)
	if err != nil {
		return "", fmt.Errorf("the version that should serve, %s, cannot be started again: %w", last.Version, err)
	}
	if _, err := s.target.StartCanary(ctx, s.service(rel)); err != nil {
		return "", fmt.Errorf("starting the version that should serve: %w", err)
	}
	if _, err := s.target.Promote(ctx); err != nil {
		return "", err
	}
	s.happened("%s did not run and was started again", last.Version)
	return fmt.Sprintf("%s started again", last.Version), nil
}

// notStarted turns a version that does not come up into a verdict.
func (s Start) notStarted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		s.result.Trigger, s.result.Reason = canary.Operator, interrupted
		return &VerdictError{Outcome: gate.Inconclusive, Trigger: canary.Operator, Reason: s.result.Reason}
	}
	var start *local.StartError
	if errors.As(err, &start) {
		s.result.Verdict.Outcome, s.result.Trigger, s.result.Reason = gate.Fail, canary.Crash, err.Error()
	}
	return err
}
