package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sluice-cd/sluice/internal/release"
)

// A trial is one release, from the commit to the end of its sync, and what could
// be seen of it from outside.
type trial struct {
	*service
	version  string
	revision string // of the commit
	pushed   time.Time
	started  counted // before

	before stable
	good   string // commit that was deployed before

	app    application     // when the sync had ended
	record *release.Record // of the ledger; nil if there is none
	meter  *meter
}

// stable is what must not change while a release is on trial.
type stable struct {
	generation int64
	image      string
	pods       []string // their UIDs
}

func (s *service) stable(ctx context.Context) (stable, error) {
	d, err := s.kube.need(ctx, kindDeployment, s.name, s.name+"-stable")
	if err != nil {
		return stable{}, err
	}
	pods, err := s.pods(ctx, "stable")
	if err != nil {
		return stable{}, err
	}
	st := stable{generation: d.GetGeneration(), image: containerImage(d, s.name)}
	for _, p := range pods {
		st.pods = append(st.pods, string(p.GetUID()))
	}
	slices.Sort(st.pods)
	return st, nil
}

// pods are those of a track.
func (s *service) pods(ctx context.Context, track string) ([]unstructured.Unstructured, error) {
	return s.kube.list(ctx, kindPod, s.name, "app.kubernetes.io/name="+s.name+",sluice.dev/track="+track)
}

// hookPods are those of a hook's Job, those that have ended included.
func (s *service) hookPods(ctx context.Context, hook string) ([]unstructured.Unstructured, error) {
	return s.kube.list(ctx, kindPod, s.name, "batch.kubernetes.io/job-name="+s.name+"-"+hook)
}

// trialLimit is how long one sync may take: the deadline of the plan, its hooks,
// and a machine that is busy.
const trialLimit = 3 * time.Minute

// try releases a version and waits for the end of the sync. during is called as
// soon as the version has answered its first request; it may be nil.
func (s *service) try(ctx context.Context, version string, during func(ctx context.Context, t *trial) error) (*trial, error) {
	t, err := s.begin(ctx, version, nil)
	if err != nil {
		return t, err
	}
	meddled := make(chan error, 1)
	meddling, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		if during == nil {
			meddled <- nil
			return
		}
		err := t.untilAnswers(meddling)
		if err == nil {
			err = during(meddling, t)
		}
		meddled <- err
	}()
	err = t.await(ctx)
	stop()
	if e := <-meddled; e != nil && !errors.Is(e, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("meddling: %w", e))
	}
	return t, err
}

// begin commits a release and remembers how things were before.
func (s *service) begin(ctx context.Context, version string, also func() error) (*trial, error) {
	t := &trial{service: s, version: version}
	var err error
	if t.before, err = s.stable(ctx); err != nil {
		return t, err
	}
	if t.good, err = s.repo.pull(ctx); err != nil {
		return t, err
	}
	if s.traffic != nil {
		t.started = s.traffic.now()
	}
	t.pushed = time.Now()
	t.meter = watchGate(ctx, s, t.pushed)
	t.revision, err = s.release(ctx, version, also)
	return t, err
}

// untilAnswers waits until the version has answered a request of the witness.
func (t *trial) untilAnswers(ctx context.Context) error {
	return poll(ctx, time.Minute, t.version+" answers", func() (bool, error) {
		_, seen := t.traffic.lastSeen(t.version, t.pushed)
		return seen, nil
	})
}

// await waits for the end of the sync and reads the ledger.
func (t *trial) await(ctx context.Context) error {
	defer t.meter.stop()
	err := poll(ctx, trialLimit, fmt.Sprintf("the end of the sync of %s %s", t.name, t.version), func() (ok bool, err error) {
		a, err := t.kube.application(ctx, t.name)
		if err != nil {
			return false, nil // the API may be away
		}
		t.app = a
		return t.app.done(t.revision) || t.overtaken(ctx), nil
	})
	if err != nil {
		return fmt.Errorf("%w; the Application: %s", err, t.app)
	}
	return t.readRecord(ctx)
}

// overtaken reports whether the sync has failed unseen, while the API was away,
// and that of the revert commit is under way already.
func (t *trial) overtaken(ctx context.Context) bool {
	if t.app.Operated == t.revision || t.app.Operated == t.good || t.app.Operated == "" {
		return false
	}
	if t.readRecord(ctx) != nil || t.record == nil || t.record.Outcome != release.RolledBack {
		return false
	}
	t.app.Phase, t.app.Finished = "Failed", time.Time{}
	return true
}

// readRecord finds the rollout in the ledger.
func (t *trial) readRecord(ctx context.Context) error {
	records, err := t.records(ctx)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(records) {
		if strings.HasSuffix(r.Image, t.image(t.version)[strings.Index(t.image(t.version), "@"):]) && r.Started.After(t.pushed.Add(-time.Second)) {
			t.record = &r
			return nil
		}
	}
	return nil
}

// promoted checks that the release serves, all of it, and that no client noticed.
func (t *trial) promoted(ctx context.Context) error {
	if t.app.Phase != "Succeeded" {
		// Whatever the reason, the next scenario needs a cluster at rest.
		return errors.Join(fmt.Errorf("the sync ended %s: %s", t.app.Phase, t.app), t.service.takeBackByHand(ctx, t.good))
	}
	var errs []error
	if t.record == nil || t.record.Outcome != release.Promoted {
		errs = append(errs, fmt.Errorf("the ledger does not say that it was promoted: %+v", t.record))
	}
	errs = append(errs, t.settle(ctx, t.revision, time.Minute))
	after, err := t.service.stable(ctx)
	errs = append(errs, err)
	if after.image != t.image(t.version) {
		errs = append(errs, fmt.Errorf("the stable Deployment runs %s", after.image))
	}
	errs = append(errs, t.canaryGone(ctx))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	t.service.good = t.version
	return nil
}

// takenBack checks that the release was taken back in the cluster and in git, and
// that the stable version never noticed.
func (t *trial) takenBack(ctx context.Context, r *result) error {
	var errs []error
	if t.app.Phase != "Failed" && t.app.Phase != "Error" {
		errs = append(errs, fmt.Errorf("the sync ended %s: %s", t.app.Phase, t.app))
	}
	if t.record == nil || t.record.Outcome == release.Promoted {
		errs = append(errs, fmt.Errorf("the ledger does not say that it was taken back: %+v; the Application: %s", t.record, t.app))
	}
	errs = append(errs, t.untouched(ctx))
	revert, err := t.reverted(ctx)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, t.settle(ctx, revert, 90*time.Second))
		if v := t.verdictTime(); !v.IsZero() {
			r.ToSettled = since(v, time.Now())
		}
	}
	errs = append(errs, t.untouched(ctx), t.canaryGone(ctx))
	return errors.Join(errs...)
}

// untouched checks that the stable Deployment is what it was: no new generation,
// no pod replaced.
func (t *trial) untouched(ctx context.Context) error {
	now, err := t.service.stable(ctx)
	if err != nil {
		return err
	}
	if now.generation != t.before.generation || now.image != t.before.image || !slices.Equal(now.pods, t.before.pods) {
		return fmt.Errorf("the stable version was touched: %+v before, %+v now", t.before, now)
	}
	return nil
}

// reverted checks the commit that took the release back.
func (t *trial) reverted(ctx context.Context) (revision string, err error) {
	var message string
	err = poll(ctx, 20*time.Second, "a revert commit", func() (ok bool, err error) {
		revision, message, err = t.repo.head(ctx)
		return revision != t.revision, err
	})
	if err != nil {
		return "", fmt.Errorf("%w; the Application: %s", err, t.app)
	}
	same, err := t.repo.sameTree(ctx, t.folder(), revision, t.good)
	switch {
	case err != nil:
		return revision, err
	case !same:
		return revision, fmt.Errorf("the revert commit %.8s does not restore %s", revision, t.folder())
	case !strings.Contains(message, "Signed-off-by:") || !strings.Contains(message, t.version):
		return revision, fmt.Errorf("the revert commit does not say what it takes back: %q", message)
	}
	return revision, nil
}

// canaryGone waits until no pod of the canary is left.
func (t *trial) canaryGone(ctx context.Context) error {
	return poll(ctx, 45*time.Second, "the canary's end", func() (bool, error) {
		pods, err := t.pods(ctx, "canary")
		return len(pods) == 0, err
	})
}

// verdictTime is when the verdict was there, zero if there was none.
func (t *trial) verdictTime() time.Time {
	if t.record == nil {
		return time.Time{}
	}
	if v := t.record.Timeline.Verdict; !v.IsZero() {
		return v
	}
	return t.record.Ended
}

// measure fills in what can be measured of a trial.
func (t *trial) measure(r *result) {
	if t.record != nil {
		r.Verdict, r.Trigger = t.record.Verdict, string(t.record.Trigger)
		r.ToVerdict = since(t.pushed, t.verdictTime())
		if ms := t.record.BreachToTrafficMS; ms != nil {
			s := float64(*ms) / 1000
			r.BreachToTraffic = &s
		}
		r.Notes = append(r.Notes, t.record.Reason)
	}
	if r.Verdict == "" {
		r.Verdict = t.app.Verdict
	}
	verdict := t.verdictTime()
	if t.app.Phase == "Failed" && !verdict.IsZero() {
		r.ToFailed = since(verdict, t.app.Finished)
		if last, ok := t.traffic.lastSeen(t.version, t.pushed); ok {
			r.ToQuiet = since(verdict, last)
		}
	}
}
