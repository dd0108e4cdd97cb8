package k8s

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	apps "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
)

// poll is how often the API server is asked while something is waited for.
const poll = 200 * time.Millisecond

// wait lets time pass, or returns why it cannot.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (t *Target) deploymentPath(name string) string {
	return fmt.Sprintf("/apis/apps/v1/namespaces/%s/deployments/%s", t.svc.Namespace, name)
}

func (t *Target) deployment(ctx context.Context, name string, insist bool) (*apps.Deployment, error) {
	var d apps.Deployment
	err := t.api.Do(ctx, apiserver.Call{Verb: http.MethodGet, Path: t.deploymentPath(name), Into: &d, Insist: insist})
	if err != nil {
		return nil, fmt.Errorf("reading deployment %s: %w", name, err)
	}
	return &d, nil
}

// replicas is how many pods a Deployment wants; one if it does not say.
func replicas(d *apps.Deployment) int {
	if d.Spec.Replicas == nil {
		return 1
	}
	return int(*d.Spec.Replicas)
}

// scale makes the canary Deployment want n pods. Unless force is set, a number
// that somebody else wrote is left alone: *ChangedError.
func (t *Target) scale(ctx context.Context, n int, force bool) error {
	name := t.svc.canary()
	for {
		d, err := t.deployment(ctx, name, force)
		if err != nil {
			return err
		}
		if err := t.owned("deployment "+name, d.ObjectMeta); err != nil {
			return err
		}
		if !force && t.replicas >= 0 {
			if err := t.sameScale(d); err != nil {
				return err
			}
		}
		if replicas(d) == n {
			t.replicas = n
			return nil
		}
		t.asked = n
		if err = t.applyScale(ctx, d, n, force); err == nil {
			t.replicas = n
			return nil
		}
		if !apierrors.IsConflict(err) || wait(ctx, poll/10) != nil {
			return fmt.Errorf("scaling deployment %s to %d: %w", name, n, err)
		}
	}
}

// sameScale refuses a number of replicas that somebody else wrote.
func (t *Target) sameScale(d *apps.Deployment) error {
	have := replicas(d)
	if have == t.asked {
		t.replicas = have // by a write of ours whose answer was lost
	}
	if have == t.replicas {
		return nil
	}
	return &ChangedError{
		Object: "deployment " + d.Name, Was: fmt.Sprintf("%d replicas", t.replicas), Is: fmt.Sprint(have),
		By: author(d.ObjectMeta, `"f:replicas"`),
	}
}

// applyScale writes the scale of the Deployment and nothing else of it. The
// version makes the API server refuse if anybody wrote since it was read. It is
// a server-side apply because of a patch to 0 and back the API server (1.34)
// forgets who made it, and a later Open could not tell that it was us.
func (t *Target) applyScale(ctx context.Context, d *apps.Deployment, n int, insist bool) error {
	body, err := json.Marshal(map[string]any{
		"apiVersion": "autoscaling/v1", "kind": "Scale",
		"metadata": map[string]any{"name": d.Name, "namespace": d.Namespace, "resourceVersion": d.ResourceVersion},
		"spec":     map[string]any{"replicas": n},
	})
	if err != nil {
		return fmt.Errorf("encoding the scale: %w", err)
	}
	return t.api.Do(ctx, apiserver.Call{
		Verb: http.MethodPatch, Path: t.deploymentPath(d.Name) + "/scale", Query: url.Values{"fieldManager": {apiserver.Manager}, "force": {"true"}},
		Kind: "application/apply-patch+yaml", Body: body, Insist: insist,
	})
}
