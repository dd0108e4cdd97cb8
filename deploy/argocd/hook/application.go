package hook

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/release"
)

// What is written on an Application.
const (
	NoteVerdict = "sluice.dev/verdict"
	NoteReason  = "sluice.dev/reason"
	NoteRelease = "sluice.dev/release"

	// Condition is the type of our condition of an Application. Argo CD's
	// controller replaces only conditions of the types that it evaluates itself
	// and keeps all others (ApplicationStatus.SetConditions).
	Condition v1alpha1.ApplicationConditionType = "SluiceVerdict"
)

// application is what is known of the Application; the zero value is one that
// could not be read.
type application struct{ *v1alpha1.Application }

// ApplicationError means that the Application cannot be read.
type ApplicationError struct {
	Name string // namespace/name
	Err  error
}

func (e *ApplicationError) Error() string { return e.Err.Error() }
func (e *ApplicationError) Unwrap() error { return e.Err }

// Hint says what to look at.
func (e *ApplicationError) Hint() string {
	return fmt.Sprintf("SLUICE_APP and SLUICE_APP_NAMESPACE say it is %s; the hooks' service account needs get and patch of it (sluice-argo render writes the Role)", e.Name)
}

func (h *hook) application() object { return object{applications, h.AppNamespace, h.App} }

// readApplication reads the Application; the error is an *ApplicationError.
func (h *hook) readApplication(ctx context.Context) error {
	var app v1alpha1.Application
	if _, err := h.api.get(ctx, h.application(), &app); err != nil {
		return &ApplicationError{Name: h.AppNamespace + "/" + h.App, Err: err}
	}
	h.app.Application = &app
	return nil
}

// revision is the git revision that is being synced, "" if that is not known.
func (a application) revision() string {
	if a.Application == nil || a.Status.OperationState == nil {
		return ""
	}
	op := a.Status.OperationState
	if r := op.SyncResult; r != nil {
		if r.Revision != "" || len(r.Revisions) == 0 {
			return r.Revision
		}
		return r.Revisions[0]
	}
	if op.Operation.Sync != nil {
		return op.Operation.Sync.Revision
	}
	return ""
}

// operation tells one sync from another: when it began. It is "" if there is
// none.
func (a application) operation() string {
	if a.Application == nil || a.Status.OperationState == nil {
		return ""
	}
	return a.Status.OperationState.StartedAt.UTC().Format(time.RFC3339)
}

// running reports whether a sync is under way.
func (a application) running() bool {
	return a.Application != nil && a.Status.OperationState != nil && !a.Status.OperationState.Phase.Completed()
}

// message is what Argo CD says of the sync.
func (a application) message() string {
	if a.Application == nil || a.Status.OperationState == nil || a.Status.OperationState.Message == "" {
		return "Argo CD does not say why"
	}
	return apiserver.OneLine(a.Status.OperationState.Message)
}

// good is the git revision of the last sync that succeeded, "" if none did.
func (a application) good() string {
	if a.Application == nil {
		return ""
	}
	history := a.Status.History
	for i := len(history) - 1; i >= 0; i-- {
		if r := cmp.Or(history[i].Revision, first(history[i].Revisions)); r != "" && r != a.revision() {
			return r
		}
	}
	return ""
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// note writes a verdict on the Application: annotations and the condition.
func (h *hook) note(ctx context.Context, v Verdict) error {
	for {
		var app v1alpha1.Application
		if _, err := h.api.get(ctx, h.application(), &app); err != nil {
			return fmt.Errorf("telling the Application: %w", err)
		}
		now := metav1.NewTime(h.now())
		conditions := slices.DeleteFunc(app.Status.Conditions, func(c v1alpha1.ApplicationCondition) bool { return c.Type == Condition })
		conditions = append(conditions, v1alpha1.ApplicationCondition{Type: Condition, Message: v.Sentence(), LastTransitionTime: &now})
		err := h.api.merge(ctx, h.application(), map[string]any{
			// A list is replaced as a whole: the version makes sure that it is the one that was read.
			"metadata": map[string]any{
				"resourceVersion": app.ResourceVersion,
				"annotations":     map[string]string{NoteVerdict: v.Word(), NoteReason: v.Reason, NoteRelease: v.Release},
			},
			"status": map[string]any{"conditions": conditions},
		})
		if !apierrors.IsConflict(err) || sleep(ctx, 20*time.Millisecond) != nil {
			return err
		}
	}
}

// event writes an event on the Application.
func (h *hook) event(ctx context.Context, v Verdict) error {
	now := metav1.NewTime(h.now())
	e := core.Event{
		TypeMeta:       metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta:     metav1.ObjectMeta{Namespace: h.AppNamespace, Name: h.App + "." + strconv.FormatInt(h.now().UnixNano(), 36)},
		InvolvedObject: core.ObjectReference{APIVersion: "argoproj.io/v1alpha1", Kind: "Application", Namespace: h.AppNamespace, Name: h.App},
		Reason:         v.eventReason(), Message: apiserver.Cut(v.Sentence(), 1000), Type: core.EventTypeNormal,
		FirstTimestamp: now, LastTimestamp: now, Count: 1,
		Source: core.EventSource{Component: apiserver.Manager}, ReportingController: "sluice.dev/hook", ReportingInstance: h.Holder,
	}
	if h.app.Application != nil {
		e.InvolvedObject.UID = h.app.UID
	}
	if v.failed() {
		e.Type = core.EventTypeWarning
	}
	return h.api.create(ctx, object{events, h.AppNamespace, e.Name}, &e)
}

// syncedAt is the git revision of the sync that promoted a release: the first that
// ended after the books were closed, or, where a later hook closed them, the last
// one since the rollout began.
func (a application) syncedAt(r release.Record) (revision string) {
	if a.Application == nil {
		return ""
	}
	since := func(h v1alpha1.RevisionHistory, t time.Time) bool {
		return !h.DeployedAt.Time.Before(t.Truncate(time.Second)) // the history has whole seconds
	}
	for _, h := range a.Status.History {
		if since(h, r.Started) {
			revision = cmp.Or(h.Revision, first(h.Revisions))
		}
		if since(h, r.Ended) {
			break
		}
	}
	return revision
}
