package drift

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"

	"github.com/sluice-cd/sluice/deploy/argocd/origin"
	"github.com/sluice-cd/sluice/deploy/k8s/apiserver"
	"github.com/sluice-cd/sluice/internal/gitops"
)

// application reads what Argo CD sees, and where it takes the manifests from.
func (r *Reader) application(ctx context.Context, c *collector) (*ArgoCD, v1alpha1.ApplicationSource) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var app v1alpha1.Application
	there, err := r.get(ctx, applications, r.settings.AppNamespace, r.settings.App, &app)
	if err == nil && !there {
		err = fmt.Errorf("there is no application %s/%s", r.settings.AppNamespace, r.settings.App)
	}
	if err != nil {
		c.missing(InArgoCD, "application", err)
		return nil, v1alpha1.ApplicationSource{}
	}
	a := seen(&app)
	c.put(func(v *View) { v.ArgoCD = a })
	return a, origin.Of(&app)
}

// seen is the part of an Application that is compared.
func seen(app *v1alpha1.Application) *ArgoCD {
	s := app.Status
	a := &ArgoCD{
		Operating: app.Operation != nil, Sync: string(s.Sync.Status), Health: string(s.Health.Status), Revision: s.Sync.Revision,
	}
	if a.Revision == "" && len(s.Sync.Revisions) > 0 {
		a.Revision = s.Sync.Revisions[0]
	}
	if op := s.OperationState; op != nil {
		a.Phase, a.Message = string(op.Phase), apiserver.OneLine(op.Message)
		a.Operating = a.Operating || !op.Phase.Completed()
	}
	if s.ReconciledAt != nil {
		a.Reconciled = s.ReconciledAt.Time
	}
	if p := app.Spec.SyncPolicy; p != nil && p.Automated != nil {
		a.Automated, a.SelfHeal = true, p.Automated.SelfHeal
	}
	for _, r := range s.Resources {
		if r.Status == v1alpha1.SyncStatusCodeOutOfSync && !r.Hook {
			a.OutOfSync = append(a.OutOfSync, r.Kind+" "+r.Name)
		}
	}
	for _, t := range s.Conditions {
		if t.IsError() || t.Type == v1alpha1.ApplicationConditionSharedResourceWarning {
			a.Conditions = append(a.Conditions, Condition{string(t.Type), apiserver.OneLine(t.Message)})
		}
	}
	return a
}

// gitAge is how long git's word holds: a server is not to be asked more often.
const gitAge = 5 * time.Second

// readGit asks the repository what the Application's targetRevision stands for.
func (r *Reader) readGit(ctx context.Context, c *collector, from v1alpha1.ApplicationSource) {
	deploy := r.settings.Config.Deploy.ArgoCD
	target := cmp.Or(from.TargetRevision, deploy.Revision)
	if k := &r.git; k.found != nil && k.target == target && r.now().Sub(k.at) < gitAge {
		c.put(func(v *View) { v.Git = k.found })
		return
	}
	repo, err := origin.Repository(from, deploy, r.settings.Git)
	repo.Timeout = patience
	if err != nil {
		c.missing(InGit, "repository", err)
		return
	}
	found, err := resolve(ctx, repo, target)
	if err != nil {
		c.missing(InGit, "repository", err)
		return
	}
	r.git.target, r.git.at, r.git.found = target, r.now(), found
	c.put(func(v *View) { v.Git = found })
}

// resolve is gitops.CheckRevision. A target that stands for nothing is an answer,
// a commit stands for itself.
func resolve(ctx context.Context, repo gitops.Repo, target string) (*Git, error) {
	if origin.IsCommit(target) {
		return &Git{Target: target, Name: "commit", Commit: target}, nil
	}
	found, err := gitops.CheckRevision(ctx, repo, target)
	var refused *gitops.RevisionError
	if errors.As(err, &refused) {
		return &Git{Target: target, Refused: refused.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	return &Git{Target: target, Name: fmt.Sprintf("%s %s", found.Kind, found.Name), Commit: found.Commit}, nil
}
