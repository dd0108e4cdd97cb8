package k8s

import (
	"context"
	"fmt"
	"strconv"
	"time"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// Event records something that happened to the canary, on its Deployment, where
// kubectl describe and Argo CD show it. A reason is one word in UpperCamelCase;
// a message is cut to what the API server takes, 1024 bytes.
func (t *Target) Event(ctx context.Context, reason, message string, warning bool) error {
	now, name := time.Now(), t.svc.canary()
	e := core.Event{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"},
		ObjectMeta: metav1.ObjectMeta{
			Name: name + "." + strconv.FormatInt(now.UnixNano(), 16), Namespace: t.svc.Namespace,
			Labels: map[string]string{managedLabel: apiserver.Manager, partLabel: t.svc.Name},
		},
		InvolvedObject:      core.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: t.svc.Namespace, Name: name},
		Reason:              reason,
		Message:             apiserver.Cut(message, 1024),
		Source:              core.EventSource{Component: apiserver.Manager},
		ReportingController: "sluice.dev/" + apiserver.Manager, ReportingInstance: t.id,
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now),
		Count: 1, Type: core.EventTypeNormal,
	}
	if warning {
		e.Type = core.EventTypeWarning
	}
	if d, err := t.deployment(ctx, name, false); err == nil {
		e.InvolvedObject.UID, e.InvolvedObject.ResourceVersion = d.UID, d.ResourceVersion
	}
	// A try whose answer was lost has written it: the name is the same.
	if err := t.api.Create(ctx, t.corePath("events"), e, nil); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("recording event %s: %w", reason, err)
	}
	return nil
}
