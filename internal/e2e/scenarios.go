package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-cd/sluice/internal/release"
)

// Figures that issue and documents hold a failed release to.
const (
	quietWithin  = 2 * time.Second  // from the verdict to the last request that the canary gets
	failedWithin = 30 * time.Second // from the verdict to the end of the sync
)

// healthy releases 1.1.0 and looks what the gate costs.
func healthy(ctx context.Context, s *service, r *result) error {
	t, err := s.try(ctx, "1.1.0", nil)
	if err != nil {
		return err
	}
	t.measure(r)
	if cpu, memory := t.meter.cost(); cpu > 0 {
		s.report.figure("gate pod: processor (millicores)", cpu)
		s.report.figure("gate pod: peak memory (MiB)", memory)
	}
	return t.promoted(ctx)
}

// stopped plays a release that has to be taken back with a verdict.
func (s *service) stopped(ctx context.Context, version, verdict string, r *result, during func(context.Context, *trial) error) (*trial, error) {
	t, err := s.try(ctx, version, during)
	if err != nil {
		return t, err
	}
	t.measure(r)
	errs := []error{t.takenBack(ctx, r)}
	if r.Verdict != verdict {
		errs = append(errs, fmt.Errorf("the verdict is %q, it has to be %q: %s", r.Verdict, verdict, t.app))
	}
	if r.ToQuiet != nil && *r.ToQuiet > quietWithin.Seconds() {
		errs = append(errs, fmt.Errorf("the canary got requests for %.1f s after the verdict", *r.ToQuiet))
	}
	if r.ToFailed != nil && *r.ToFailed > failedWithin.Seconds() {
		errs = append(errs, fmt.Errorf("the sync failed %.1f s after the verdict", *r.ToFailed))
	}
	return t, errors.Join(errs...)
}

func slowRelease(ctx context.Context, s *service, r *result) error {
	t, err := s.stopped(ctx, "1.2.0", "fail", r, nil)
	if t != nil && t.record != nil && t.record.Trigger != release.SLO {
		err = errors.Join(err, fmt.Errorf("the trigger is %q", t.record.Trigger))
	}
	return err
}

func failingRelease(ctx context.Context, s *service, r *result) error {
	r.mayFail = 1 << 30
	t, err := s.stopped(ctx, "1.3.0", "fail", r, nil)
	if t != nil && t.record != nil {
		r.mayFail = t.record.Requests.Canary + 100 // what the block under way had, too
	}
	return err
}

// sameAgain commits the slow release once more: its verdict stands. Without one
// it is played first.
func sameAgain(ctx context.Context, s *service, r *result) error {
	judged, err := s.judged(ctx, "1.2.0")
	if err != nil {
		return err
	}
	if !judged {
		if err := slowRelease(ctx, s, r); err != nil {
			return err
		}
	}
	t, err := s.try(ctx, "1.2.0", nil)
	if err != nil {
		return err
	}
	t.measure(r)
	revert, err := t.reverted(ctx)
	if err != nil {
		return err
	}
	if _, seen := s.traffic.lastSeen("1.2.0", t.pushed); seen {
		return errors.New("the release that was stopped got traffic again")
	}
	r.Verdict = t.app.Verdict
	return errors.Join(t.untouched(ctx), s.settle(ctx, revert, time.Minute))
}

// refused plays a release that must not get a single request.
func (s *service) refused(ctx context.Context, version, word string, r *result) error {
	t, err := s.try(ctx, version, nil)
	if err != nil {
		return err
	}
	t.measure(r)
	err = t.takenBack(ctx, r)
	if _, seen := s.traffic.lastSeen(version, t.pushed); seen {
		err = errors.Join(err, errors.New("it got traffic"))
	}
	if !t.app.says(word) {
		err = errors.Join(err, fmt.Errorf("nobody says %q: %s", word, t.app))
	}
	return err
}

func unsigned(ctx context.Context, s *service, r *result) error {
	return s.refused(ctx, "1.4.0", "signature", r)
}

func foreignSignature(ctx context.Context, s *service, r *result) error {
	return s.refused(ctx, "1.4.1", "signature", r)
}

func replacedProgram(ctx context.Context, s *service, r *result) error {
	t, err := s.stopped(ctx, "1.5.0", "invalid", r, func(context.Context, *trial) error {
		replaced, err := s.blind()
		if err == nil {
			s.say("  !! %s", replaced.text)
		}
		return err
	})
	if t != nil && t.record != nil && t.record.Trigger != release.HashMismatch {
		err = errors.Join(err, fmt.Errorf("the trigger is %q", t.record.Trigger))
	}
	return err
}

func tamperedObject(ctx context.Context, s *service, r *result) error {
	object := tampered()
	restore, err := s.swapObject(ctx, object, fmt.Sprintf("sha256:%x", sha256.Sum256(object)))
	if err == nil {
		s.say("  !! the DaemonSet has loaded an object with a byte more")
		err = s.refused(ctx, "1.5.1", "object", r)
		if r.Verdict == "" {
			r.Verdict = "invalid"
		}
	}
	if restore != nil {
		err = errors.Join(err, restore(ctx))
	}
	return err
}

// noTraffic is played without clients.
func noTraffic(ctx context.Context, s *service, r *result) error {
	if err := s.setting(ctx, "deadline: 60s", "deadline: 40s"); err != nil {
		return err
	}
	t, err := s.try(ctx, "1.7.2", nil)
	if err != nil {
		return err
	}
	t.measure(r)
	r.ToQuiet = nil
	err = t.takenBack(ctx, r)
	if r.Verdict != "no-data" && r.Verdict != "inconclusive" {
		err = errors.Join(err, fmt.Errorf("the verdict is %q, without a single request: %s", r.Verdict, t.app))
	}
	if r.ToVerdict != nil && *r.ToVerdict < 40 {
		err = errors.Join(err, fmt.Errorf("it was given up after %.0f s, before the deadline", *r.ToVerdict))
	}
	return errors.Join(err, s.setUp(ctx))
}

// eitherWay accepts both ends: what counts is that the books are closed, git and
// cluster agree, and no client noticed.
func (s *service) eitherWay(ctx context.Context, version string, r *result, during func(context.Context, *trial) error) error {
	t, err := s.try(ctx, version, during)
	if err != nil {
		return err
	}
	t.measure(r)
	if t.app.Phase == "Succeeded" {
		return t.promoted(ctx)
	}
	return t.takenBack(ctx, r)
}

func probeKilled(ctx context.Context, s *service, r *result) error {
	return s.eitherWay(ctx, "1.5.3", r, func(ctx context.Context, _ *trial) error {
		pods, err := s.kube.list(ctx, kindPod, probeNamespace, "app.kubernetes.io/name=sluice-probe")
		if err != nil || len(pods) == 0 {
			return errors.Join(err, errors.New("there is no probe to kill"))
		}
		s.say("  !! pod %s killed", pods[0].GetName())
		now := int64(0)
		return s.kube.remove(ctx, kindPod, probeNamespace, pods[0].GetName(), &now)
	})
}

func gateEvicted(ctx context.Context, s *service, r *result) error {
	return s.eitherWay(ctx, "1.6.0", r, func(ctx context.Context, _ *trial) error {
		pods, err := s.hookPods(ctx, "gate")
		if err != nil {
			return err
		}
		for _, p := range pods {
			if text(&p, "status", "phase") == "Running" {
				s.say("  !! pod %s evicted", p.GetName())
				return s.kube.evict(ctx, s.name, p.GetName())
			}
		}
		return errors.New("the gate has no pod that runs")
	})
}

func apiRestart(ctx context.Context, s *service, r *result) error {
	return s.eitherWay(ctx, "1.6.1", r, func(ctx context.Context, _ *trial) error {
		begin := time.Now()
		if err := s.info.RestartAPI(ctx); err != nil {
			return err
		}
		s.say("  !! the API server was killed and is back after %.1f s", time.Since(begin).Seconds())
		return nil
	})
}

// twoReleases commits a second release while the first one has its canary.
func twoReleases(ctx context.Context, s *service, r *result) error {
	var second *trial
	first, err := s.try(ctx, "1.7.0", func(ctx context.Context, _ *trial) (err error) {
		second, err = s.begin(context.WithoutCancel(ctx), "1.7.1", nil)
		return err
	})
	if err != nil {
		return err
	}
	if second == nil {
		return errors.New("the first release ended before the second was committed")
	}
	second.good = first.revision
	if err := second.await(ctx); err != nil {
		return err
	}
	first.measure(r)
	second.measure(r)
	if second.app.Phase != "Succeeded" {
		return fmt.Errorf("the second sync ended %s: %s", second.app.Phase, second.app)
	}
	return second.promoted(ctx)
}

// tagConstraint lets an Application follow tags. What is taken back does not keep
// the next one from being promoted.
func tagConstraint(ctx context.Context, s *service, r *result) error {
	if _, err := s.stopped(ctx, "1.1.0", "fail", r, nil); err != nil {
		return err
	}
	tags, err := s.repo.git(ctx, "tag", "--list", "--sort=v:refname")
	if err != nil {
		return err
	}
	s.say("  tags: %q", tags)
	t, err := s.try(ctx, "1.2.0", nil)
	if err != nil {
		return err
	}
	return t.promoted(ctx)
}
