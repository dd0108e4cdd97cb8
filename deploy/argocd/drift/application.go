package drift

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"

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
	return a, source(&app)
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
		a.Phase, a.Message = string(op.Phase), line(op.Message)
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
			a.Conditions = append(a.Conditions, Condition{string(t.Type), line(t.Message)})
		}
	}
	return a
}

func source(app *v1alpha1.Application) v1alpha1.ApplicationSource {
	if app.Spec.Source == nil && len(app.Spec.Sources) > 0 {
		return app.Spec.Sources[0]
	}
	if app.Spec.Source == nil {
		return v1alpha1.ApplicationSource{}
	}
	return *app.Spec.Source
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
	repo := gitops.Repo{URL: cmp.Or(deploy.Repository, from.RepoURL), Path: cmp.Or(from.Path, deploy.Path), Timeout: patience}
	err := r.credentials(&repo.Auth)
	if repo.URL == "" {
		err = errors.New("neither sluice.yaml (deploy.argocd.repository) nor the Application names a git repository")
	}
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

var hash = regexp.MustCompile("^[0-9a-f]{40}$")

// resolve is gitops.CheckRevision. A target that stands for nothing is an answer,
// a commit stands for itself.
func resolve(ctx context.Context, repo gitops.Repo, target string) (*Git, error) {
	if hash.MatchString(target) {
		return &Git{Target: target, Name: "commit", Commit: target}, nil
	}
	name := strings.TrimPrefix(target, "refs/heads/")
	_, versionErr := semver.NewVersion(name)
	_, constraintErr := semver.NewConstraint(name)
	if versionErr != nil && constraintErr != nil && name != "HEAD" {
		repo.Branch = name
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

// credentials reads those for git from the folder that the user named.
func (r *Reader) credentials(auth *gitops.Auth) error {
	if r.settings.Git == "" {
		return nil
	}
	var key, ca []byte
	for name, into := range map[string]func([]byte){
		"username":       func(b []byte) { auth.Username = strings.TrimSpace(string(b)) },
		"password":       func(b []byte) { auth.Password = strings.TrimSpace(string(b)) },
		"ssh-privatekey": func(b []byte) { key = b },
		"ca.crt":         func(b []byte) { ca = b },
	} {
		raw, err := os.ReadFile(filepath.Join(r.settings.Git, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("reading the credentials of the git repository: %w", err)
		}
		into(raw)
	}
	auth.SSHKey, auth.CA = key, ca
	return nil
}

// line makes one line of a message.
func line(s string) string { return strings.Join(strings.Fields(s), " ") }
