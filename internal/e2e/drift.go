package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// episode is one drift, from the moment that it was made.
type episode struct {
	What     string   `json:"what"`
	Said     *float64 `json:"said_s,omitempty"`     // until drift --watch printed it; none: it was mended before a look
	Repaired *float64 `json:"repaired_s,omitempty"` // until it was as it should be, by looking at the thing itself
	Mended   *float64 `json:"mended_s,omitempty"`   // until drift --watch said so
	By       string   `json:"by"`                   // who put it right
}

// A deviation is something that somebody does to a service behind git's back.
type deviation struct {
	what        string
	view, where string // of the line that drift --watch has to print
	by          string
	do          func(ctx context.Context) error
	repair      func(ctx context.Context) error         // nil: it is repaired without anybody's doing
	right       func(ctx context.Context) (bool, error) // is it as it should be?
	fleeting    bool                                    // may be repaired before anybody has looked
}

// repairLimit is how long a repair may take: 92 s is what others need, a sync
// with its hooks a third of that.
const repairLimit = 92 * time.Second

// deviate makes a drift, and measures when it was noticed and when it was over.
func (s *service) deviate(ctx context.Context, w *watcher, r *result, d deviation) error {
	begin := time.Now()
	e := episode{What: d.what, By: d.by}
	if err := d.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	defer func() {
		r.Drifts = append(r.Drifts, e)
		r.Notes = append(r.Notes, w.said(begin)...)
	}()
	if d.repair != nil { // who repairs it has to be told of it
		line, err := w.await(ctx, time.Minute, begin, false, d.view, d.where)
		if err != nil {
			return fmt.Errorf("%s: %w", d.what, err)
		}
		e.Said = since(begin, line.Read)
		s.say("  drift after %.1f s: %s", *e.Said, line)
		if err := d.repair(ctx); err != nil {
			return fmt.Errorf("repairing %s: %w", d.what, err)
		}
	}
	if err := poll(ctx, repairLimit, "the repair of "+d.what, func() (bool, error) { return d.right(ctx) }); err != nil {
		return fmt.Errorf("%w; drift said: %s", err, strings.Join(w.said(begin), "; "))
	}
	e.Repaired = since(begin, time.Now())
	return s.endOf(ctx, w, d, begin, &e)
}

// endOf waits until drift --watch has seen the end of a deviation.
func (s *service) endOf(ctx context.Context, w *watcher, d deviation, begin time.Time, e *episode) error {
	limit := time.Minute
	if d.fleeting {
		limit = 5 * time.Second // looks that began before the end have ended
	}
	line, err := w.await(ctx, limit, begin, false, d.view, d.where)
	if err != nil && d.fleeting && ctx.Err() == nil {
		s.say("  %s: repaired after %.1f s by %s, before a look", d.what, *e.Repaired, d.by)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	e.Said = since(begin, line.Read)
	mended, err := w.await(ctx, repairLimit, line.Read, true, d.view, d.where)
	if err != nil {
		return fmt.Errorf("%s: %w", d.what, err)
	}
	e.Mended = since(begin, mended.Read)
	s.say("  %s: said after %.1f s, repaired after %.1f s by %s, mended in the eyes of drift after %.1f s", d.what, *e.Said, *e.Repaired, d.by, *e.Mended)
	return nil
}

// deviations makes several, one after the other, while drift --watch looks, and
// the service has to be at rest after them.
func (s *service) deviations(ctx context.Context, r *result, list ...deviation) (err error) {
	w, err := s.watchDrift(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	for _, d := range list {
		if err := s.deviate(ctx, w, r, d); err != nil {
			return err
		}
	}
	head, _, err := s.repo.head(ctx)
	if err != nil {
		return err
	}
	return s.settle(ctx, head, 90*time.Second)
}

// sync is what an operator does where Argo CD does nothing by itself.
func (s *service) sync(ctx context.Context) error {
	cmd := exec.Command(s.argo, "sync", "-f", filepath.Join(s.repo.dir, "sluice.yaml"))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := s.info.Run(ctx, cmd); err != nil {
		return fmt.Errorf("sluice-argo sync: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}

// automated sets what Argo CD does by itself; self-heal alone, or nothing.
func (s *service) automated(ctx context.Context, policy any) error {
	return s.kube.patch(ctx, kindApplication, argoNamespace, s.name, map[string]any{"spec": map[string]any{"syncPolicy": map[string]any{"automated": policy}}})
}

// usual is the policy that the rendered Application has.
var usual = map[string]any{"prune": true, "selfHeal": true}

func (s *service) scale(ctx context.Context, track string, replicas int) error {
	return s.kube.patch(ctx, kindDeployment, s.name, s.name+"-"+track, map[string]any{"spec": map[string]any{"replicas": replicas}})
}

// scaled reports whether a Deployment asks for so many pods and has them all,
// with one image.
func (s *service) scaled(ctx context.Context, track string, want int64, image string) (bool, error) {
	d, err := s.kube.need(ctx, kindDeployment, s.name, s.name+"-"+track)
	if err != nil {
		return false, err
	}
	has := func(field string) bool { return number(d, "status", field) == want }
	return number(d, "spec", "replicas") == want && has("replicas") && (want == 0 || has("updatedReplicas") && has("readyReplicas")) &&
		number(d, "status", "observedGeneration") == d.GetGeneration() && (image == "" || containerImage(d, s.name) == image), nil
}

// editStable is kubectl edit of the container that serves.
func (s *service) editStable(ctx context.Context, change func(container map[string]any)) error {
	d, err := s.kube.need(ctx, kindDeployment, s.name, s.name+"-stable")
	if err != nil {
		return err
	}
	containers := slice(d, "spec", "template", "spec", "containers")
	list := make([]any, len(containers))
	for i, c := range containers {
		if c["name"] == s.name {
			change(c)
		}
		list[i] = c
	}
	return s.kube.patch(ctx, kindDeployment, s.name, s.name+"-stable", map[string]any{
		"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": list}}},
	})
}

// driftLive changes what serves behind git's back.
func driftLive(ctx context.Context, s *service, r *result) error {
	before, err := s.stable(ctx)
	if err != nil {
		return err
	}
	stable := "deployment " + s.name + "-stable"
	rest := func(ctx context.Context) (bool, error) { return s.scaled(ctx, "stable", 3, before.image) }
	return errors.Join(s.deviations(ctx, r, deviation{
		what: "stable scaled from 3 to 5, self-heal on", view: "live", where: stable + " replicas", by: "Argo CD's self-heal", fleeting: true,
		do: func(ctx context.Context) error { return s.scale(ctx, "stable", 5) }, right: rest,
	}, deviation{
		what: "stable edited, self-heal off", view: "argocd", where: "Deployment " + s.name + "-stable", by: "sluice-argo sync",
		do: func(ctx context.Context) error {
			if err := s.automated(ctx, map[string]any{"prune": true, "selfHeal": false}); err != nil {
				return err
			}
			if err := s.editStable(ctx, func(c map[string]any) { c["image"] = s.image("1.4.0") }); err == nil {
				return errors.New("the API server let somebody give stable an image that no gate has passed")
			}
			return s.editStable(ctx, func(c map[string]any) { c["terminationMessagePolicy"] = "File" })
		},
		repair: s.sync, right: func(ctx context.Context) (bool, error) {
			d, err := s.kube.need(ctx, kindDeployment, s.name, s.name+"-stable")
			if err != nil {
				return false, err
			}
			for _, c := range slice(d, "spec", "template", "spec", "containers") {
				if c["terminationMessagePolicy"] == "File" {
					return false, nil
				}
			}
			return rest(ctx)
		},
	}, deviation{
		what: "canary scaled to 1, which Argo CD ignores", view: "live", where: "deployment " + s.name + "-canary replicas", by: "sluice-argo sync",
		do: func(ctx context.Context) error {
			return errors.Join(s.automated(ctx, usual), s.scale(ctx, "canary", 1))
		},
		repair: s.sync, right: func(ctx context.Context) (bool, error) { return s.scaled(ctx, "canary", 0, "") },
	}), s.automated(ctx, usual))
}

// driftWeights gives the canary a pod and half of the traffic by hand.
func driftWeights(ctx context.Context, s *service, r *result) error {
	return s.deviations(ctx, r, deviation{
		what: "half of the weights to the canary, which Argo CD ignores", view: "live", where: "httproute " + s.name + " rule", by: "sluice-argo sync",
		do: func(ctx context.Context) error {
			if err := s.scale(ctx, "canary", 1); err != nil {
				return err
			}
			ready := func() (bool, error) { return s.scaled(ctx, "canary", 1, "") }
			if err := poll(ctx, time.Minute, "a pod of the canary", ready); err != nil {
				return err
			}
			return s.weigh(ctx, 50, 50)
		},
		repair: s.sync, right: func(ctx context.Context) (bool, error) {
			route, err := s.kube.need(ctx, kindRoute, s.name, s.name)
			if err != nil || weighed(slice(route, "spec", "rules")) {
				return false, err
			}
			return s.scaled(ctx, "canary", 0, "")
		},
	})
}

// weighed reports whether any rule of a route sends something to the canary.
func weighed(rules []map[string]any) bool {
	for _, rule := range rules {
		refs, _ := rule["backendRefs"].([]any)
		for _, ref := range refs {
			m, _ := ref.(map[string]any)
			if weight, _ := m["weight"].(int64); strings.HasSuffix(fmt.Sprint(m["name"]), "-canary") && weight > 0 {
				return true
			}
		}
	}
	return false
}

// driftGit lets git move on while nothing is synced by itself.
func driftGit(ctx context.Context, s *service, r *result) error {
	annotated := func(ctx context.Context) (bool, error) {
		u, err := s.kube.need(ctx, kindService, s.name, s.name)
		return u.GetAnnotations()["example.com/owner"] == "team", err
	}
	return errors.Join(s.deviations(ctx, r, deviation{
		what: "a commit without a sync, automated sync off", view: "git", where: "revision", by: "sluice-argo sync",
		do: func(ctx context.Context) error {
			if err := s.automated(ctx, nil); err != nil {
				return err
			}
			return s.annotate(ctx)
		},
		repair: s.sync, right: annotated,
	}), s.automated(ctx, usual))
}

// annotate commits a change of the Service that matters to nobody.
func (s *service) annotate(ctx context.Context) error {
	if _, err := s.repo.pull(ctx); err != nil {
		return err
	}
	const wave = "    argocd.argoproj.io/sync-wave: \"-1\"\n"
	if err := s.edit("base/services.yaml", wave, wave+"    example.com/owner: team\n"); err != nil {
		return err
	}
	_, err := s.repo.push(ctx, "Say who owns it", "")
	return err
}

// driftLoaded changes what the nodes have loaded.
func driftLoaded(ctx context.Context, s *service, r *result) error {
	object := tampered()
	var restore func(context.Context) error
	var replaced *replacement
	return s.deviations(ctx, r, deviation{
		what: "a program of the probe replaced in the kernel", view: "probes", where: "kernel", by: "the daemon",
		do: func(context.Context) (err error) {
			replaced, err = s.blind()
			return err
		},
		right: func(context.Context) (bool, error) { return replaced.undone() },
	}, deviation{
		what: "another object loaded by the DaemonSet", view: "probes", where: "object", by: "the DaemonSet as rendered",
		do: func(ctx context.Context) (err error) {
			restore, err = s.swapObject(ctx, object, fmt.Sprintf("sha256:%x", sha256.Sum256(object)))
			return err
		},
		repair: func(ctx context.Context) error { return restore(ctx) },
		right:  func(context.Context) (bool, error) { return true, nil }, // restore waits until it is
	})
}
