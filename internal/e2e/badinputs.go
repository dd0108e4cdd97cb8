package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sluice-cd/sluice/internal/cluster"
)

// A fault is something wrong with the surroundings of a release, for which the
// release is not to blame.
type fault struct {
	version string
	says    string                          // what has to be found in what the Application says
	also    func() error                    // in the work tree, in the same commit
	during  func(ctx context.Context) error // when the canary answers
	repair  func(ctx context.Context) error
}

// survives plays a release into a fault: the sync has to fail, the Application has
// to say why, the stable version must not be touched. Then a person takes the
// commit back and everything is as before.
func (s *service) survives(ctx context.Context, r *result, f fault) error {
	t, err := s.begin(ctx, f.version, f.also)
	if err != nil {
		return err
	}
	if f.during != nil {
		err := t.untilAnswers(ctx)
		if err == nil {
			err = f.during(ctx)
		}
		if err != nil {
			t.meter.stop()
			return err
		}
	}
	errs := []error{t.await(ctx)}
	t.measure(r)
	r.ToFailed = nil
	if t.app.Phase != "Failed" && t.app.Phase != "Error" {
		errs = append(errs, fmt.Errorf("the sync ended %s: %s", t.app.Phase, t.app))
	}
	if !t.app.says(f.says) {
		errs = append(errs, fmt.Errorf("nobody says %q: %s", f.says, t.app))
	}
	r.Notes = append(r.Notes, t.app.String())
	errs = append(errs, t.untouched(ctx))
	if f.repair != nil {
		errs = append(errs, f.repair(ctx))
	}
	errs = append(errs, s.takeBackByHand(ctx, t.good), t.untouched(ctx), t.canaryGone(ctx))
	return errors.Join(errs...)
}

// takeBackByHand makes the folder what it was, as a person does, unless Sluice
// has done it.
func (s *service) takeBackByHand(ctx context.Context, good string) error {
	head, err := s.repo.pull(ctx)
	if err != nil {
		return err
	}
	same, err := s.repo.sameTree(ctx, s.folder(), head, good)
	if err != nil {
		return err
	}
	if !same {
		if _, err := s.repo.git(ctx, "checkout", "-q", good, "--", s.folder()); err != nil {
			return err
		}
		if head, err = s.repo.push(ctx, "Take the release back", ""); err != nil {
			return err
		}
	}
	return s.settle(ctx, head, 90*time.Second)
}

// edit changes a text in a file of the work tree.
func (s *service) edit(file, old, replacement string) error {
	path := filepath.Join(s.repo.dir, s.folder(), file)
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("editing: %w", err)
	}
	if !strings.Contains(string(raw), old) {
		return fmt.Errorf("editing %s: there is no %q", file, old)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(raw), old, replacement, 1)), 0o644)
}

func neverReady(ctx context.Context, s *service, r *result) error {
	t, err := s.try(ctx, "1.9.1", nil)
	if err != nil {
		return err
	}
	t.measure(r)
	r.ToQuiet = nil
	err = t.takenBack(ctx, r)
	if !t.app.says("ready") && !t.app.says("crash") {
		err = errors.Join(err, fmt.Errorf("nobody says that it does not get ready: %s", t.app))
	}
	return err
}

func noPermission(ctx context.Context, s *service, r *result) error {
	if err := s.kube.remove(ctx, kindRoleBinding, s.name, s.name+"-sluice", nil); err != nil {
		return err
	}
	return s.survives(ctx, r, fault{version: "1.8.0", says: "forbidden", repair: s.setUp})
}

func noGate(ctx context.Context, s *service, r *result) error {
	return s.survives(ctx, r, fault{version: "1.8.0", says: "may not get", also: func() error {
		return s.edit("base/kustomization.yaml", "- hooks.yaml\n", "")
	}})
}

// setUp applies what the team with more rights applies.
func (s *service) setUp(ctx context.Context) error {
	setup, err := s.built(ctx, "setup")
	if err != nil {
		return err
	}
	return cluster.Apply(ctx, s.kube.rest, s.name, setup)
}

// setting changes a text of the sluice.yaml that releases are judged by, which is
// no part of any commit.
func (s *service) setting(ctx context.Context, old, replacement string) error {
	name := s.name + "-" + s.name + "-sluice"
	u, err := s.kube.need(ctx, kindConfigMap, argoNamespace, name)
	if err != nil {
		return err
	}
	now := text(u, "data", "sluice.yaml")
	if !strings.Contains(now, old) {
		return fmt.Errorf("changing the settings in configmap %s: there is no %q", name, old)
	}
	return s.kube.patch(ctx, kindConfigMap, argoNamespace, name, map[string]any{"data": map[string]any{"sluice.yaml": strings.Replace(now, old, replacement, 1)}})
}

func wrongNamespace(ctx context.Context, s *service, r *result) error {
	if err := s.setting(ctx, "    namespace: "+s.name, "    namespace: elsewhere"); err != nil {
		return err
	}
	return s.survives(ctx, r, fault{version: "1.8.0", says: "elsewhere", repair: s.setUp})
}

// noEndpoints is played without clients: there is nobody to answer them.
func noEndpoints(ctx context.Context, s *service, r *result) error {
	if _, err := s.repo.pull(ctx); err != nil {
		return err
	}
	if err := s.edit("base/deployments.yaml", "  replicas: 3", "  replicas: 0"); err != nil {
		return err
	}
	head, err := s.repo.push(ctx, "No pods", "")
	if err != nil {
		return err
	}
	if err := s.settle(ctx, head, time.Minute); err != nil {
		return err
	}
	if err := poll(ctx, time.Minute, "the end of the stable pods", func() (bool, error) {
		pods, err := s.pods(ctx, "stable")
		return len(pods) == 0, err
	}); err != nil {
		return err
	}
	err = s.survives(ctx, r, fault{version: "1.8.0", says: "endpoint"})
	if _, e := s.repo.pull(ctx); e != nil {
		return errors.Join(err, e)
	}
	if e := s.render(ctx); e != nil {
		return errors.Join(err, e)
	}
	if head, e := s.repo.push(ctx, "Pods again", ""); e != nil {
		return errors.Join(err, e)
	} else if e := s.settle(ctx, head, time.Minute); e != nil {
		return errors.Join(err, e)
	}
	return err
}

func foreignRoute(ctx context.Context, s *service, r *result) error {
	if _, err := s.repo.pull(ctx); err != nil {
		return err
	}
	if err := s.edit("base/route.yaml", "app.kubernetes.io/managed-by: sluice", "app.kubernetes.io/managed-by: another-team"); err != nil {
		return err
	}
	head, err := s.repo.push(ctx, "The route is another team's", "")
	if err != nil {
		return err
	}
	if err := s.settle(ctx, head, time.Minute); err != nil {
		return err
	}
	err = s.survives(ctx, r, fault{version: "1.3.0", says: "another-team"})
	if _, e := s.repo.pull(ctx); e != nil {
		return errors.Join(err, e)
	}
	if e := s.render(ctx); e != nil {
		return errors.Join(err, e)
	}
	if head, e := s.repo.push(ctx, "The route is ours again", ""); e != nil {
		return errors.Join(err, e)
	} else if e := s.settle(ctx, head, time.Minute); e != nil {
		return errors.Join(err, e)
	}
	return err
}

func ownWeights(ctx context.Context, s *service, r *result) error {
	if err := s.weigh(ctx, 900, 1); err != nil {
		return err
	}
	return s.survives(ctx, r, fault{version: "1.3.0", says: "weight", repair: func(ctx context.Context) error { return s.weigh(ctx, 100, 0) }})
}

// weigh sets the weights of the route's last rule, as a person with kubectl does.
func (s *service) weigh(ctx context.Context, stable, canary int64) error {
	u, err := s.kube.need(ctx, kindRoute, s.name, s.name)
	if err != nil {
		return err
	}
	rules := slice(u, "spec", "rules")
	for _, rule := range rules[len(rules)-1:] {
		refs, _ := rule["backendRefs"].([]any)
		for _, ref := range refs {
			if m, ok := ref.(map[string]any); ok {
				m["weight"] = map[bool]int64{true: stable, false: canary}[strings.HasSuffix(fmt.Sprint(m["name"]), "-stable")]
			}
		}
	}
	list := make([]any, len(rules))
	for i := range rules {
		list[i] = rules[i]
	}
	return s.kube.patch(ctx, kindRoute, s.name, s.name, map[string]any{"spec": map[string]any{"rules": list}})
}

var (
	kindSecret = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	kindCRD    = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

func expiredToken(ctx context.Context, s *service, r *result) error {
	set := func(ctx context.Context, password string) error {
		return s.kube.patch(ctx, kindSecret, s.name, "git", map[string]any{"stringData": map[string]any{"password": password}})
	}
	if err := set(ctx, "expired"); err != nil {
		return err
	}
	return s.survives(ctx, r, fault{version: "1.8.0", says: "expired", repair: func(ctx context.Context) error { return set(ctx, s.password) }})
}

// gitGone takes the repository away while a slow release has its canary.
func gitGone(ctx context.Context, s *service, r *result) error {
	here := filepath.Join(s.info.Dir, "git", s.name+".git")
	return s.survives(ctx, r, fault{
		version: "1.9.0", says: "not reverted",
		during: func(context.Context) error { return os.Rename(here, here+".gone") },
		repair: func(context.Context) error {
			if _, err := os.Stat(here + ".gone"); err != nil {
				return fmt.Errorf("bringing the repository back: %w", err)
			}
			_ = os.RemoveAll(here) // a push may have made an empty one
			return os.Rename(here+".gone", here)
		},
	})
}

// noCRD is played last, without clients: the definition takes every route along.
func noCRD(ctx context.Context, s *service, r *result) error {
	if err := s.kube.Resource(kindCRD).Delete(ctx, "httproutes.gateway.networking.k8s.io", deleteNow); err != nil {
		return fmt.Errorf("removing the definition of HTTPRoutes: %w", err)
	}
	t, err := s.begin(ctx, "1.3.0", nil)
	if err != nil {
		return err
	}
	err = poll(ctx, 90*time.Second, "a word about HTTPRoutes", func() (ok bool, err error) {
		t.app, err = s.kube.application(ctx, s.name)
		return t.app.argoSays("httproute", t.revision), err
	})
	t.meter.stop()
	if err != nil {
		err = fmt.Errorf("%w; the Application: %s", err, t.app)
	}
	r.Notes = append(r.Notes, t.app.String())
	return errors.Join(err, t.untouched(ctx))
}
