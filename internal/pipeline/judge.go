package pipeline

import (
	"context"
	"fmt"

	"github.com/sluice-cd/sluice/deploy/canary"
	"github.com/sluice-cd/sluice/internal/gate"
	"github.com/sluice-cd/sluice/internal/source"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// Judge gives the release traffic step by step, for as long as the gate agrees.
type Judge struct{ *Rollout }

func (Judge) String() string { return "gate" }

// Run returns a *VerdictError unless the release passed.
func (s Judge) Run(ctx context.Context) (string, error) {
	switch {
	case !s.began:
		return "", Skip{}
	case s.first:
		s.result.Promote, s.result.Reason = true, "first release: no version to compare it with"
		return "", Skip{s.result.Reason}
	}
	src, err := s.source()
	if err != nil {
		return "", err
	}
	g, err := gate.New(verdict.Gate(s.Config.Deploy.Gate))
	if err != nil {
		return "", err
	}
	s.result, err = canary.Rollout{
		Plan: verdict.Plan(s.Config.Deploy.Canary), Target: s.target, Source: src, Judge: g, Report: s.look,
	}.Run(ctx)
	if err != nil {
		return "", err
	}
	if !s.result.Promote {
		return "", &VerdictError{Outcome: s.result.Verdict.Outcome, Trigger: s.result.Trigger, Reason: s.result.Reason}
	}
	return fmt.Sprintf("pass after %d looks: %s", len(s.result.Looks), s.result.Verdict.Reason), nil
}

func (s Judge) source() (*source.Probe, error) {
	stable, err := s.target.Stable().Cgroup.ID()
	if err != nil {
		return nil, err
	}
	newcomer, err := s.arm.Cgroup.ID()
	if err != nil {
		return nil, err
	}
	return source.NewProbe(s.probe, stable, newcomer, s.target.Front().Port(), s.Config.Deploy.Canary.Block.Std())
}

func (s Judge) look(l canary.Look) {
	if s.OnLook != nil {
		s.OnLook(l)
	}
}
