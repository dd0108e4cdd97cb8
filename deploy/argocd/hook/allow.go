package hook

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// allow notes that the image of this release may run: after PreSync in the canary,
// after the gate in the stable Deployment. The policies of the cluster go by it, so
// that a sync without the hooks, or of a single resource, gets no image past them.
func (h *hook) allow(ctx context.Context) error {
	what, ok := map[string]string{"presync": "admitted", "sync": "passed"}[h.name]
	if !ok {
		return nil
	}
	err := h.api.merge(ctx, object{configMaps, h.namespace(), h.service() + "-admitted"}, map[string]any{"data": map[string]string{what: digestOf(h.Image)}})
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		return &SettingsError{What: err.Error(), Advice: applySetup}
	}
	return err
}
