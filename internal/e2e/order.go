package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-cd/sluice/deploy/k8s/ledger"
	"github.com/sluice-cd/sluice/internal/cluster"
	"github.com/sluice-cd/sluice/internal/release"
)

// prepare makes a service ready for a scenario, whatever the one before has left.
func (s *service) prepare(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.opened(ctx); err != nil {
		return err
	}
	if s.spoiled {
		s.say("is put in order after what went wrong")
		if err := s.putRight(ctx); err != nil {
			return fmt.Errorf("putting %s in order: %w", s.name, err)
		}
		s.spoiled = false
	}
	if s.traffic.ended() {
		if err := s.openTraffic(ctx); err != nil {
			return fmt.Errorf("clients of %s: %w", s.name, err)
		}
	}
	return nil
}

// opened installs the service if that was not tried before.
func (s *service) opened(ctx context.Context) error {
	if s.installed || s.unready != nil {
		return s.unready
	}
	err := s.open(ctx, s)
	if !s.installed {
		s.unready = err
	}
	return err
}

// putRight does what a person does who does not know what has happened: end the
// sync that is under way, and let daemons, rights, Application and git be as they
// are rendered, with the version that the ledger says serves.
func (s *service) putRight(ctx context.Context) error {
	a, err := s.kube.application(ctx, s.name)
	if err != nil {
		return err
	}
	if a.Phase == "Running" {
		err := s.kube.patch(ctx, kindApplication, argoNamespace, s.name, map[string]any{
			"status": map[string]any{"operationState": map[string]any{"phase": "Terminating"}},
		})
		if err != nil {
			return err
		}
	}
	records, err := s.records(ctx)
	if err != nil {
		return err
	}
	if r, ok := release.Running(records); ok {
		s.good = r.Version
	}
	if _, err := s.repo.pull(ctx); err != nil {
		return err
	}
	if err := errors.Join(s.render(ctx), s.set(ctx, s.good)); err != nil {
		return err
	}
	tag, err := s.nextTag(ctx)
	if err != nil {
		return err
	}
	head, err := s.repo.push(ctx, "As it was", tag)
	if err != nil {
		return err
	}
	if err := errors.Join(s.setUp(ctx), cluster.Apply(ctx, s.kube.rest, s.name, s.gitSecrets())); err != nil {
		return err
	}
	if err := errors.Join(s.probes(ctx), s.settle(ctx, head, 2*time.Minute)); err != nil {
		return err
	}
	return poll(ctx, time.Minute, "the canary's end", func() (bool, error) {
		pods, err := s.pods(ctx, "canary")
		return len(pods) == 0, err
	})
}

// nextTag is one that is higher than all there are, if the Application follows
// tags.
func (s *service) nextTag(ctx context.Context) (string, error) {
	if s.revision == "" {
		return "", nil
	}
	list, err := s.repo.git(ctx, "tag", "--list")
	return fmt.Sprintf("v1.90.%d", len(list)), err
}

// records are what the ledger of the service has.
func (s *service) records(ctx context.Context) ([]release.Record, error) {
	log, err := ledger.Open(ctx, s.kube.rest, s.name, s.name)
	if err != nil {
		return nil, err
	}
	return log.Records(ctx)
}

// judged reports whether the gate has stopped a version before.
func (s *service) judged(ctx context.Context, version string) (bool, error) {
	records, err := s.records(ctx)
	return slices.ContainsFunc(records, func(r release.Record) bool {
		return r.Version == version && r.Outcome != release.Promoted && r.Verdict != ""
	}), err
}
