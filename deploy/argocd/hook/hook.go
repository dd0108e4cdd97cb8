// Package hook is what Sluice does while Argo CD syncs an Application: the four
// hooks of a release, and what an operator may do about one.
//
// PreSync asks whether the release may get traffic at all, the hook of the Sync
// phase gives it traffic step by step for as long as the gate agrees, PostSync
// closes the books of a release that is stable now, and SyncFail takes back one
// that failed, in the cluster and in git. Every hook may be killed anywhere, run
// again and run twice: what was decided is found in the ledger and in the
// handover, what was left half done is put right first, and a lock in the
// cluster lets only one of them move traffic.
//
// A hook ends with a [Verdict]. It is told everywhere alike: exit status,
// termination message, events, and annotations and condition of the Application.
//
// # What is reverted in git
//
// A release that was refused or that did not pass is reverted whatever its
// verdict: inconclusive, no-data and invalid leave it unproven just as fail does,
// and git must not ask for what the cluster does not run. The message of the
// commit says which it was. A rollout that began and could not be carried out is
// reverted, too, and has no verdict, so that the same image may be released again.
// Nothing is reverted when a hook could not do its work before that (no permission,
// no connection, a daemon that cannot be asked, objects missing or somebody else's,
// bad settings): that says nothing of the release, and is said instead.
package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/k8s"
	"github.com/sluice-cd/sluice/internal/release"
	"github.com/sluice-cd/sluice/internal/verdict"
)

// names lists the hooks in the order in which Argo CD runs them.
var names = []string{"presync", "sync", "postsync", "syncfail"}

// last is for what has to be done although time is up, once the traffic is off the
// canary: the verdict left and told. The gate's pod has 150 s from SIGTERM to SIGKILL
// for all of it, the other hooks, which do less, 30 s.
const last = 20 * time.Second

// hook is one run of a hook.
type hook struct {
	Settings
	name  string
	log   io.Writer
	rest  *rest.Config
	api   *api
	now   func() time.Time
	notes []verdict.Happening

	app    application
	target *k8s.Target
	ledger release.Log
	lock   *lock
}

// Run runs the named hook. What it came to is told everywhere before it
// returns, an error included: a *VerdictError if the release may not go on, any
// other if the hook could not do its work.
func Run(ctx context.Context, name string, s Settings, cfg *rest.Config, log io.Writer) (Verdict, error) {
	h, err := newHook(name, s, cfg, log)
	if err != nil {
		return Verdict{Hook: name, Reason: err.Error()}, err
	}
	defer h.close()
	v, err := h.run(ctx)
	v = h.complete(v, err)
	if tellErr := h.tell(ctx, v); tellErr != nil {
		h.say("%v", tellErr) // the exit status says it still
	}
	if err == nil && v.failed() && name != "syncfail" { // that one has done its work
		err = &VerdictError{v}
	}
	return v, err
}

// Fail tells everywhere that a hook could not even begin: cfg is nil if it is not
// known which cluster is meant, s.Config if the settings cannot be read.
func Fail(ctx context.Context, name string, s Settings, cfg *rest.Config, cause error) error {
	v := Verdict{Hook: name, Service: s.App, Release: versionOf(s.Image), Image: s.Image, At: time.Now().UTC(), Reason: cause.Error(), Hint: hintOf(cause), cause: cause}
	err := v.terminate(s.Termination)
	if cfg == nil || s.App == "" || s.AppNamespace == "" {
		return err
	}
	h, newErr := newHook(name, s, cfg, io.Discard)
	if newErr != nil {
		return errors.Join(err, newErr)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), last/2)
	defer cancel()
	return errors.Join(err, h.note(ctx, v), h.event(ctx, v))
}

func newHook(name string, s Settings, cfg *rest.Config, log io.Writer) (*hook, error) {
	a, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	return &hook{Settings: s, name: name, log: log, rest: cfg, api: a, now: time.Now}, nil
}

func (h *hook) run(ctx context.Context) (Verdict, error) {
	work, ok := map[string]func(context.Context) (Verdict, error){
		"presync": h.presync, "sync": h.rollOut, "postsync": h.postsync, "syncfail": h.syncfail,
	}[h.name]
	if !ok {
		return Verdict{}, fmt.Errorf("unknown hook %q (known: %s)", h.name, strings.Join(names, ", "))
	}
	if err := h.check(); err != nil {
		return Verdict{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.limit())
	defer cancel()
	ctx, err := h.prepare(ctx)
	if err := h.checkNamespace(); err != nil {
		return Verdict{}, err // nothing of ours is there, not even for syncfail
	}
	if err != nil && h.name != "syncfail" {
		return Verdict{}, err
	}
	v, workErr := work(ctx)
	if err = errors.Join(err, workErr); err == nil && !v.failed() {
		if err = h.allow(ctx); err != nil {
			v.idle = false // it has something to say after all
		}
	}
	return v, err
}

// limit is how long a hook may take.
func (h *hook) limit() time.Duration {
	const margin = 3 * time.Minute
	if h.name == "sync" {
		return h.Config.Deploy.Canary.Deadline.Std() + h.Config.Deploy.Kubernetes.Ready.Std() + margin
	}
	return margin
}

// prepare reads the Application, opens the ledger and takes the lock. What there
// is of them when one fails can be used.
func (h *hook) prepare(ctx context.Context) (context.Context, error) {
	appErr := h.readApplication(ctx)
	ledger, err := h.Ledger(ctx, h.rest)
	if err == nil {
		h.ledger = ledger
	}
	if err = errors.Join(appErr, err); err != nil {
		return ctx, err
	}
	return h.enter(ctx)
}

// checkNamespace refuses settings that speak of another place than the
// Application.
func (h *hook) checkNamespace() error {
	if h.app.Application == nil {
		return nil
	}
	if to := h.app.Spec.Destination.Namespace; to != "" && to != h.namespace() {
		return &SettingsError{
			What:   fmt.Sprintf("deploy.kubernetes.namespace is %s, the Application %s deploys into %s", h.namespace(), h.App, to),
			Advice: "make sluice.yaml and spec.destination.namespace of the Application say the same, and render the manifests again",
		}
	}
	return nil
}

// close lets go of everything.
func (h *hook) close() {
	if h.lock != nil {
		h.lock.release()
	}
	if h.target != nil {
		h.target.Close()
	}
}

// open makes the target, with all its checks.
func (h *hook) open(ctx context.Context) error {
	t, err := k8s.Open(ctx, h.rest, h.kubernetes())
	if err == nil {
		h.target = t
	}
	return err
}

// orAnyTarget makes a target without a check if there is none: taking traffic
// back must not depend on everything being in order.
func (h *hook) orAnyTarget() (err error) {
	if h.target == nil {
		h.target, err = k8s.New(h.rest, h.kubernetes())
	}
	return err
}

// say writes one line of the log.
func (h *hook) say(format string, args ...any) {
	fmt.Fprintf(h.log, "%s  %s\n", h.now().Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

// happened writes one line of the log and keeps it with the recording.
func (h *hook) happened(format string, args ...any) {
	h.say(format, args...)
	h.notes = append(h.notes, verdict.Happening{At: h.now(), Text: fmt.Sprintf(format, args...)})
}
