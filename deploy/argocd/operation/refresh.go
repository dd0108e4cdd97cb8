package operation

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// refresh lets Argo CD look at git, and notes the commit that the Application asks
// for by then. Somebody who has just pushed a release is not to be told the verdict
// on the one before, whose sync is under way. Nothing is noted if Argo CD cannot
// say, as when it does not reach git.
func (f *follower) refresh(ctx context.Context) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{
		v1alpha1.AnnotationKeyRefresh: string(v1alpha1.RefreshTypeNormal),
	}}})
	if err != nil {
		return fmt.Errorf("encoding a refresh: %w", err)
	}
	err = apiserver.Patiently(ctx, &f.outage, func(ctx context.Context) error {
		_, err := f.api.Patch(ctx, f.App, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: apiserver.Manager})
		return err
	})
	if err != nil {
		return fmt.Errorf("asking application %s/%s for a refresh: %w", f.Namespace, f.App, err)
	}
	for {
		app, err := f.read(ctx)
		if err != nil {
			return err
		}
		if _, waiting := app.Annotations[v1alpha1.AnnotationKeyRefresh]; !waiting {
			f.newest = app.Status.Sync.Revision
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(poll):
		}
	}
}

// revision is the one that is asked for, "" if it is not known which that is.
func (f *follower) revision() string { return cmp.Or(f.Revision, f.newest) }

// same reports whether the sync that is asked for or under way is of this revision.
func (f *follower) same(app *v1alpha1.Application) bool {
	want := f.revision()
	if want == "" {
		return false
	}
	if op := app.Operation; op != nil {
		return op.Sync != nil && op.Sync.Revision == want
	}
	state := app.Status.OperationState
	return state.Operation.Sync != nil && state.Operation.Sync.Revision == want || state.SyncResult != nil && state.SyncResult.Revision == want
}
