package hook

import (
	"context"
	"fmt"

	"github.com/sluice-cd/sluice/deploy/argocd/origin"
	"github.com/sluice-cd/sluice/internal/gitops"
)

// repository is where the manifests come from, with the credentials for a
// commit, if there are any.
func (h *hook) repository() (gitops.Repo, error) {
	return origin.Repository(origin.Of(h.app.Application), h.Config.Deploy.ArgoCD, h.Git)
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
	target := origin.Of(h.app.Application).TargetRevision
	branch, constraint := origin.Follows(target)
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
