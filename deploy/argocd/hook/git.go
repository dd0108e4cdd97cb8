package hook

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

	"github.com/Masterminds/semver/v3"

	"github.com/sluice-cd/sluice/internal/gitops"
)

// repository is where the manifests come from, with the credentials for a
// commit, if there are any. The Application says where that is: a commit to
// sluice.yaml must not decide who is sent a password.
func (h *hook) repository() (gitops.Repo, error) {
	url, path, target := h.app.source()
	a := h.Config.Deploy.ArgoCD
	repo := gitops.Repo{URL: cmp.Or(url, a.Repository), Path: cmp.Or(path, a.Path)}
	if repo.URL == "" {
		return repo, &SettingsError{What: "neither sluice.yaml (deploy.argocd.repository) nor the Application names a git repository"}
	}
	repo.Branch, _ = follows(target)
	for name, into := range map[string]*string{"username": &repo.Auth.Username, "password": &repo.Auth.Password} {
		raw, err := os.ReadFile(filepath.Join(h.Git, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return repo, fmt.Errorf("reading the credentials of the git repository: %w", err)
		}
		*into = strings.TrimSpace(string(raw))
	}
	if file := filepath.Join(h.Git, "known_hosts"); exists(file) {
		repo.Auth.KnownHosts = file
	}
	for name, into := range map[string]*[]byte{"ssh-privatekey": &repo.Auth.SSHKey, "ca.crt": &repo.Auth.CA} {
		raw, err := os.ReadFile(filepath.Join(h.Git, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return repo, fmt.Errorf("reading the credentials of the git repository: %w", err)
		}
		*into = raw
	}
	return repo, nil
}

// revert takes a release back in git. It returns what a person is told: where
// the commit is, or that there is none, and why not.
func (h *hook) revert(ctx context.Context, v Verdict, bad, good string) (string, error) {
	mode := h.Config.Deploy.ArgoCD.Revert
	switch {
	case mode == "off":
		return "git was not reverted: deploy.argocd.revert is off", nil
	case bad == "":
		return "git was not reverted: the Application does not say which revision was synced", nil
	case good == "":
		return "git was not reverted: there is no revision that was synced before", nil
	}
	_, _, target := h.app.source()
	branch, constraint := follows(target)
	if branch == "" && constraint == "" && target != "" && target != "HEAD" {
		return fmt.Sprintf("git was not reverted: targetRevision is %s, which a commit does not move: set it back by hand", target), nil
	}
	repo, err := h.repository()
	if err != nil {
		return "", err
	}
	change := gitops.Change{
		Bad: bad, Good: good, Mode: gitops.Mode(mode), Name: h.service(), Version: v.Release, Verdict: v.Word(), Reason: v.Sentence(),
		Evidence: fmt.Sprintf("rollout %d in the ledger of %s/%s", v.Rollout, h.namespace(), h.service()), Time: h.now(),
	}
	change.Constraint = constraint
	res, err := gitops.Revert(ctx, repo, change)
	if err != nil {
		return "", err
	}
	done := "git reverted"
	if res.Already {
		done = "git was reverted already"
	}
	done += fmt.Sprintf(" by %.12s on %s", res.Commit, res.Branch)
	if res.Tag != "" {
		done += ", tag " + res.Tag
	}
	return done, nil
}

// follows is what the Application follows in a repository: a branch, or tags that
// satisfy a constraint.
func follows(target string) (branch, constraint string) {
	if isHash.MatchString(target) {
		return "", ""
	}
	if strings.HasPrefix(target, "refs/tags/") {
		return "", ""
	}
	name := strings.TrimPrefix(target, "refs/heads/")
	if _, err := semver.NewVersion(target); err == nil {
		return "", "" // one tag for ever
	}
	if _, err := semver.NewConstraint(target); err == nil && target != "" {
		return "", target
	}
	if target == "HEAD" {
		name = ""
	}
	return name, ""
}

var isHash = regexp.MustCompile("^[0-9a-f]{40}$")
