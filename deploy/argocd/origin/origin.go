// Package origin says where the manifests of a service come from: the repository
// that its Application names, what it follows there, and how to log in.
//
// It asks no server; package gitops does.
package origin

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"

	"github.com/sluice-cd/sluice/internal/config"
	"github.com/sluice-cd/sluice/internal/gitops"
)

// Of is the source of an Application, the first if it has several; the zero value
// if it has none, or if app is nil.
func Of(app *v1alpha1.Application) v1alpha1.ApplicationSource {
	switch {
	case app == nil:
		return v1alpha1.ApplicationSource{}
	case app.Spec.Source != nil:
		return *app.Spec.Source
	case len(app.Spec.Sources) > 0:
		return app.Spec.Sources[0]
	}
	return v1alpha1.ApplicationSource{}
}

// NowhereError means that nobody says where the manifests come from.
type NowhereError struct{}

func (e *NowhereError) Error() string {
	return "neither sluice.yaml (deploy.argocd.repository) nor the Application names a git repository"
}

// Hint says where to write it.
func (e *NowhereError) Hint() string {
	return "set deploy.argocd.repository, run sluice-argo render, and kubectl apply -k setup"
}

// Repository is where the manifests come from, with what is in the folder of
// credentials: username and password, ssh-privatekey and known_hosts, ca.crt, each
// of which may be missing; "": no folder. The Application goes before the file: a
// commit to sluice.yaml must not decide who is sent a password. The error is a
// *NowhereError, or of a file that cannot be read.
func Repository(from v1alpha1.ApplicationSource, file config.ArgoCD, credentials string) (gitops.Repo, error) {
	repo := gitops.Repo{URL: cmp.Or(from.RepoURL, file.Repository), Path: cmp.Or(from.Path, file.Path)}
	if repo.URL == "" {
		return repo, &NowhereError{}
	}
	repo.Branch, _ = Follows(cmp.Or(from.TargetRevision, file.Revision))
	if credentials == "" {
		return repo, nil
	}
	auth := &repo.Auth
	for name, put := range map[string]func([]byte){
		"username":       func(b []byte) { auth.Username = strings.TrimSpace(string(b)) },
		"password":       func(b []byte) { auth.Password = strings.TrimSpace(string(b)) },
		"ssh-privatekey": func(b []byte) { auth.SSHKey = b },
		"ca.crt":         func(b []byte) { auth.CA = b },
		"known_hosts":    func([]byte) { auth.KnownHosts = filepath.Join(credentials, "known_hosts") },
	} {
		raw, err := os.ReadFile(filepath.Join(credentials, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return repo, fmt.Errorf("reading the credentials of the git repository: %w", err)
		}
		put(raw)
	}
	return repo, nil
}

// Follows is what a targetRevision follows in a repository: a branch, or tags that
// satisfy a constraint. Both are empty for one tag, for a commit, and for the
// branch that the server calls its HEAD.
func Follows(target string) (branch, constraint string) {
	if IsCommit(target) || target == "HEAD" || strings.HasPrefix(target, "refs/tags/") {
		return "", ""
	}
	if _, err := semver.NewVersion(target); err == nil {
		return "", "" // one tag for ever
	}
	if _, err := semver.NewConstraint(target); err == nil && target != "" {
		return "", target
	}
	return strings.TrimPrefix(target, "refs/heads/"), ""
}

var commit = regexp.MustCompile("^[0-9a-f]{40}$")

// IsCommit reports whether a targetRevision is a commit, which stands for itself.
func IsCommit(target string) bool { return commit.MatchString(target) }
