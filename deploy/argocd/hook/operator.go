package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/internal/release"
)

// operatorPrefix marks a holder of the lock that is a person and no pod.
const operatorPrefix = "operator:"

func isOperator(holder string) bool { return strings.HasPrefix(holder, operatorPrefix) }

// Operator names who runs this process, for the ledger.
func Operator() string {
	name, host := "an unknown user", "an unknown host"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}

// RollbackOptions say how a release is taken back.
type RollbackOptions struct {
	Operator string // who asks for it
	DryRun   bool   // only say what would be done
	Serving  bool   // the version that serves, although one was taken back by hand last
}

// Rollback takes back, on a person's word, the release that is on its way, or
// with nothing on its way the one that serves. What is on its way loses its
// traffic at once, whoever runs it; then the books are closed and git goes back.
// Run again, it finishes what a killed one left, and takes back nothing more.
func Rollback(ctx context.Context, s Settings, cfg *rest.Config, o RollbackOptions, log io.Writer) (Verdict, error) {
	s.Holder = operatorPrefix + o.Operator
	h, err := newHook("rollback", s, cfg, log)
	if err != nil {
		return Verdict{}, err
	}
	defer h.close()
	ctx, cancel := context.WithTimeout(ctx, h.limit())
	defer cancel()
	if err := h.readApplication(ctx); err != nil {
		return Verdict{}, err
	}
	if h.ledger, err = h.Ledger(ctx, h.rest); err != nil {
		return Verdict{}, err
	}
	records, err := h.ledger.Records(ctx)
	if err != nil {
		return Verdict{}, err
	}
	for _, open := range release.Unfinished(records) {
		if open.Operator != "" {
			continue
		}
		passed, err := h.stableHas(ctx, open.Image)
		if err != nil {
			return Verdict{}, err
		}
		if passed {
			return h.afterThePass(ctx, open, records, o)
		}
		return h.takeBackNow(ctx, open, o.Operator, o.DryRun)
	}
	if n := len(records); n > 0 && !o.Serving && records[n-1].Trigger == release.Operator {
		return h.takenBack(ctx, records[n-1], o.DryRun)
	}
	return h.goBack(ctx, records, o.Operator, o.DryRun)
}

// takenBack makes sure that git says what the ledger says: the newest release was
// taken back by hand, on its way or when it served.
func (h *hook) takenBack(ctx context.Context, r release.Record, dryRun bool) (Verdict, error) {
	h.Image = r.Image
	v := Verdict{Rollout: r.ID, Trigger: release.Operator, Reason: r.Reason}
	left, err := h.lastVerdict(ctx)
	if err != nil {
		return v, err
	}
	if left != nil && left.Rollout == r.ID {
		v.Revision = left.Revision
	}
	if r.Rollout.Operator != "" { // git was put right before the ledger had it
		v = h.complete(v, nil)
		v.Hint = "to take back the version that serves now, too: --serving"
		return v, nil
	}
	v = h.complete(v, nil)
	v.Hint = "to take back the version that serves, too: --serving"
	if dryRun {
		v.Reason = fmt.Sprintf("%s was taken back already; would make sure that git says so", r.Version)
		return v, nil
	}
	v.Reverted, err = h.revert(ctx, v, v.Revision, h.app.good())
	return v, errors.Join(err, h.tell(ctx, v))
}

// afterThePass goes back from a release that the stable version has, and whose
// books nobody is going to close because its sync was ended by hand.
func (h *hook) afterThePass(ctx context.Context, open release.Rollout, records []release.Record, o RollbackOptions) (Verdict, error) {
	if h.app.running() {
		return Verdict{}, fmt.Errorf("the gate has passed %s and the stable version gets it already: wait for the end of the sync, then roll back", open.Version)
	}
	if o.DryRun {
		return Verdict{Rollout: open.ID, Reason: fmt.Sprintf("would record that %s was promoted, whose sync was ended, and go back to %s", open.Version, open.Previous)}, nil
	}
	if err := h.closeForeign(ctx, records, 0); err != nil {
		return Verdict{}, err
	}
	records, err := h.ledger.Records(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return h.goBack(ctx, records, o.Operator, false)
}

// takeBackNow takes back what is on its way.
func (h *hook) takeBackNow(ctx context.Context, open release.Rollout, operator string, dryRun bool) (Verdict, error) {
	h.Image = open.Image
	v := h.complete(Verdict{Rollout: open.ID, Gate: open.Gate, Trigger: release.Operator, Reason: "taken back by " + operator}, nil)
	if dryRun {
		v.Reason = fmt.Sprintf("would take %s %s back: traffic to %s, canary to zero, revert commit", open.Name, open.Version, open.Previous)
		return v, nil
	}
	// Who holds the lock has to find this verdict when the lock is gone.
	if err := h.leave(ctx, handover{Verdict: &v}); err != nil {
		return v, err
	}
	l := h.newLock()
	if err := l.take(ctx, true); err != nil {
		return v, err
	}
	ctx = l.keep(ctx)
	begin := h.now()
	if err := h.orAnyTarget(); err != nil {
		return v, err
	}
	if err := h.target.Settle(ctx); err != nil {
		return v, err
	}
	h.happened("traffic to the stable version, canary to zero after %v", h.now().Sub(begin).Round(time.Millisecond))
	v.Result = &release.Result{Timeline: release.Timeline{Verdict: begin, Traffic: h.now()}}
	v, err := h.takeBack(ctx, open, true, v, nil)
	return v, errors.Join(err, h.tell(ctx, v))
}

// goBack reverts in git what serves. The sync that follows needs no gate: the
// ledger says that the release before was good.
func (h *hook) goBack(ctx context.Context, records []release.Record, operator string, dryRun bool) (Verdict, error) {
	now, ok := release.Running(records)
	if !ok {
		return Verdict{}, errors.New("there is nothing to roll back: no version was promoted yet")
	}
	before, ok := release.Before(records)
	if !ok {
		return Verdict{}, fmt.Errorf("there is no version before %s to go back to", now.Version)
	}
	bad, good := h.app.syncedAt(now), h.app.syncedAt(before)
	if bad == "" || bad == good { // its sync was ended by hand, and is not in the history
		bad = h.app.revision()
	}
	h.Image = now.Image
	v := h.complete(Verdict{Trigger: release.Operator, Reason: fmt.Sprintf("%s taken back by %s, %s serves again", now.Version, operator, before.Version), Revision: bad}, nil)
	if bad == "" || good == "" {
		return v, fmt.Errorf("the history of Application %s no longer says which git revisions had %s and %s: revert the commit by hand", h.App, now.Version, before.Version)
	}
	if dryRun {
		v.Reason = fmt.Sprintf("would go back from %s to %s: revert commit from %.12s to %.12s", now.Version, before.Version, bad, good)
		return v, nil
	}
	id, err := h.ledger.Start(ctx, release.Rollout{
		Name: h.service(), Version: now.Version, Image: now.Image, Previous: before.Version, Env: now.Env, Operator: operator, Started: h.now(),
	})
	if err != nil {
		return v, err
	}
	v.Rollout = id
	r := release.Result{Outcome: release.RolledBack, Trigger: release.Operator, Reason: v.Reason, Ended: h.now()}
	v.Reverted, err = h.revert(ctx, v, bad, good)
	if err != nil {
		r.Outcome, r.Reason = release.Refused, fmt.Sprintf("%s still serves: %v", now.Version, err)
	}
	if finishErr := h.ledger.Finish(ctx, id, r); err != nil || finishErr != nil {
		return v, errors.Join(err, finishErr)
	}
	return v, h.tell(ctx, v)
}

// ForgetOptions say which verdict is not to count any more, and who says so.
type ForgetOptions struct {
	Rollout  int // 0: the newest one that was not promoted
	Operator string
	Reason   string
	DryRun   bool // only say which it would be
}

// Forget makes the verdict of a rollout count no more, so that the same image may
// be judged again. It returns the rollout as it was.
func Forget(ctx context.Context, s Settings, cfg *rest.Config, o ForgetOptions) (release.Record, error) {
	ledger, err := s.Ledger(ctx, cfg)
	if err != nil {
		return release.Record{}, err
	}
	records, err := ledger.Records(ctx)
	if err != nil {
		return release.Record{}, err
	}
	for i := len(records) - 1; i >= 0; i-- {
		r := records[i]
		if r.ID != o.Rollout && (o.Rollout != 0 || !r.Finished() || r.Outcome == release.Promoted || r.Rollout.Operator != "" || r.Forgotten != nil) {
			continue
		}
		if o.DryRun {
			return r, nil
		}
		return r, ledger.Forget(ctx, r.ID, release.Forgotten{Operator: o.Operator, Reason: o.Reason, At: time.Now()})
	}
	if o.Rollout == 0 {
		return release.Record{}, errors.New("there is no verdict to forget: everything was promoted")
	}
	return release.Record{}, fmt.Errorf("the ledger has no rollout %d; sluice-argo status lists them", o.Rollout)
}
