// Package operation asks Argo CD for a sync, and waits for what comes of it: the
// phase of the operation, and the verdict that the hooks wrote on the Application.
//
// It needs no server of Argo CD, only get and patch of the Application. Where there
// is only such a server, the Dagger module goes by the same rules (ci/argocd, a Go
// module of its own that has none of these libraries); one table of Applications in
// its testdata holds both to them.
package operation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/argoproj/gitops-engine/pkg/sync/common"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/sluice-cd/sluice/deploy/argocd/hook"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// Request says what to sync.
type Request struct {
	Namespace, App string
	Revision       string // of git: a commit, branch or tag; "": the commit that the Application asks for now
	Timeout        time.Duration
	DryRun         bool // only say what would be done; the API server is asked whether it may be
}

// Result is how a sync ended.
type Result struct {
	App      string `json:"app"`
	Phase    string `json:"phase"` // of the operation: Succeeded, Failed, Error
	Message  string `json:"message"`
	Revision string `json:"revision"` // the commit that was synced
	// What the hooks came to; empty if none of them wrote anything.
	Verdict string        `json:"verdict,omitempty"`
	Reason  string        `json:"reason,omitempty"`
	Release string        `json:"release,omitempty"`
	Took    time.Duration `json:"took_nanos"`
}

// FailedError is how a sync ends that did not succeed.
type FailedError struct{ Result }

func (e *FailedError) Error() string {
	if e.Verdict != "" {
		return fmt.Sprintf("%s: the sync of %s ended with the verdict %s: %s", strings.ToLower(e.Phase), e.App, e.Verdict, e.Reason)
	}
	return fmt.Sprintf("%s: the sync of %s: %s", strings.ToLower(e.Phase), e.App, e.Message)
}

// ExitCode is that of the verdict, 1 if there is none.
func (e *FailedError) ExitCode() int {
	return max(1, hook.Verdict{Verdict: e.Verdict}.ExitCode())
}

// TimeoutError means that a sync did not end in time. It goes on.
type TimeoutError struct {
	App, Message string
	After        time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("the sync of %s has not ended after %v: %s", e.App, e.After, cmp.Or(e.Message, "Argo CD has not begun it"))
}

// Hint says where to look.
func (e *TimeoutError) Hint() string {
	return "it goes on; is Argo CD's application controller running? kubectl describe application " + e.App
}

// Temporary is always true.
func (e *TimeoutError) Temporary() bool { return true }

const poll = 500 * time.Millisecond

// Sync starts a sync, or joins the one that is under way if it is of the same
// revision, and waits for its end; one of another revision ends first. Without a
// revision it is of the commit that the Application asks for when Sync is called.
// What happens on the way is told to report. The error is a *FailedError, a
// *TimeoutError, or of the API server. When ctx ends the sync goes on.
func Sync(ctx context.Context, cfg *rest.Config, r Request, report func(string)) (Result, error) {
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return Result{}, fmt.Errorf("preparing a client of the API server: %w", err)
	}
	f := follower{
		Request: r, report: report, begin: time.Now(), said: map[string]bool{},
		api: client.Resource(v1alpha1.SchemeGroupVersion.WithResource("applications")).Namespace(r.Namespace),
	}
	limited, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	res, err := f.run(limited)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		err = &TimeoutError{App: r.App, Message: f.message, After: r.Timeout}
	}
	return res, err
}

// follower follows one sync.
type follower struct {
	Request
	api     dynamic.ResourceInterface
	report  func(string)
	begin   time.Time
	said    map[string]bool
	message string // of Argo CD, last
	newest  string // commit that the Application asks for
	outage  apiserver.Outage
}

func (f *follower) run(ctx context.Context) (Result, error) {
	if f.Revision == "" && !f.DryRun {
		if err := f.refresh(ctx); err != nil {
			return Result{}, err
		}
	}
	for asked := false; ; {
		app, err := f.read(ctx)
		if err != nil {
			return Result{}, err
		}
		if f.DryRun {
			return f.would(ctx, app)
		}
		switch state := app.Status.OperationState; {
		case asked && app.Operation == nil && state != nil && state.Phase.Completed(): // asking had cleared the state of the sync before
			return f.ended(app)
		case asked:
			f.tell(app)
		case busy(app):
			f.tell(app)
			if asked = f.same(app); asked {
				f.say("a sync of the same revision is under way")
			} else {
				f.say("waiting for the end of another sync")
			}
		default:
			if asked, err = f.ask(ctx, app); err != nil {
				return Result{}, err
			}
		}
		select {
		case <-ctx.Done():
			return Result{}, ctx.Err()
		case <-time.After(poll):
		}
	}
}

// would is what a sync would begin with.
func (f *follower) would(ctx context.Context, app *v1alpha1.Application) (Result, error) {
	f.newest = app.Status.Sync.Revision
	res := Result{App: f.App, Revision: f.newest, Message: "would ask for a sync of " + f.wanted(app)}
	switch {
	case busy(app) && f.same(app):
		res.Message = "would join the sync that is under way"
	case busy(app):
		res.Message = "would wait for the sync that is under way, then ask for one of " + f.wanted(app)
	default:
		if _, err := f.ask(ctx, app); err != nil {
			return res, err
		}
	}
	return res, nil
}

// wanted is the revision that a sync is of.
func (f *follower) wanted(app *v1alpha1.Application) string {
	return cmp.Or(f.Revision, app.Spec.GetSource().TargetRevision, "HEAD")
}

// read reads the Application, patiently: an API server that restarts is no end.
func (f *follower) read(ctx context.Context) (*v1alpha1.Application, error) {
	var u *unstructured.Unstructured
	err := apiserver.Patiently(ctx, &f.outage, func(ctx context.Context) (err error) {
		if u, err = f.api.Get(ctx, f.App, metav1.GetOptions{}); err != nil && f.outage.Passing(err) {
			f.say("the API server does not answer: " + err.Error())
		}
		return err
	})
	var app v1alpha1.Application // has fields that runtime's converter cannot set
	var raw []byte
	if err == nil {
		raw, err = u.MarshalJSON()
	}
	if err == nil {
		err = json.Unmarshal(raw, &app)
	}
	if err != nil {
		return nil, fmt.Errorf("reading application %s/%s: %w", f.Namespace, f.App, err)
	}
	return &app, nil
}

// busy reports whether a sync is asked for or under way.
func busy(app *v1alpha1.Application) bool {
	return app.Operation != nil || app.Status.OperationState != nil && !app.Status.OperationState.Phase.Completed()
}

// ask writes the operation that the controller takes up. It is false if somebody
// was faster.
func (f *follower) ask(ctx context.Context, app *v1alpha1.Application) (bool, error) {
	sync := v1alpha1.SyncOperation{Revision: f.revision(), SyncStrategy: &v1alpha1.SyncStrategy{Hook: &v1alpha1.SyncStrategyHook{}}}
	op := v1alpha1.Operation{Sync: &sync, InitiatedBy: v1alpha1.OperationInitiator{Username: apiserver.Manager}}
	if p := app.Spec.SyncPolicy; p != nil {
		sync.SyncOptions = p.SyncOptions
		sync.Prune = p.Automated != nil && p.Automated.Prune
		if p.Retry != nil {
			op.Retry = *p.Retry
		}
	}
	patch, err := json.Marshal(map[string]any{
		"metadata":  map[string]any{"resourceVersion": app.ResourceVersion},
		"operation": op,
		"status":    map[string]any{"operationState": nil}, // else the last one is taken for this one
	})
	if err != nil {
		return false, fmt.Errorf("encoding an operation: %w", err)
	}
	options := metav1.PatchOptions{FieldManager: apiserver.Manager}
	if f.DryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	_, err = f.api.Patch(ctx, f.App, types.MergePatchType, patch, options)
	if apierrors.IsConflict(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for a sync of application %s/%s: %w", f.Namespace, f.App, err)
	}
	if !f.DryRun {
		f.say(strings.TrimSuffix(fmt.Sprintf("asked for a sync of %s, %.12s", f.wanted(app), f.newest), ", "))
	}
	return true, nil
}

// tell reports what is new in a sync that is under way.
func (f *follower) tell(app *v1alpha1.Application) {
	state := app.Status.OperationState
	if state == nil {
		return
	}
	f.message = state.Message
	if state.SyncResult == nil {
		return
	}
	for _, r := range state.SyncResult.Resources {
		if r.HookType != "" && r.HookPhase != "" {
			f.say(fmt.Sprintf("%s %s: %s", r.HookType, r.Name, strings.ToLower(string(r.HookPhase))))
		}
	}
}

// say reports a line once.
func (f *follower) say(line string) {
	if !f.said[line] {
		f.said[line] = true
		f.report(fmt.Sprintf("%6.1fs  %s", time.Since(f.begin).Seconds(), line))
	}
}

func (f *follower) ended(app *v1alpha1.Application) (Result, error) {
	f.tell(app)
	state := app.Status.OperationState
	res := Result{App: f.App, Phase: string(state.Phase), Message: state.Message, Took: time.Since(f.begin)}
	if state.SyncResult != nil {
		res.Revision = state.SyncResult.Revision
	}
	if judged(app, state.StartedAt.Time) {
		note := app.Annotations
		res.Verdict, res.Reason, res.Release = note[hook.NoteVerdict], note[hook.NoteReason], note[hook.NoteRelease]
	}
	if state.Phase != common.OperationSucceeded {
		return res, &FailedError{res}
	}
	return res, nil
}

// judged reports whether the hooks of this sync have written on the Application.
func judged(app *v1alpha1.Application, since time.Time) bool {
	for _, c := range app.Status.Conditions {
		if c.Type == hook.Condition && c.LastTransitionTime != nil && !c.LastTransitionTime.Time.Before(since) {
			return true
		}
	}
	return false
}
