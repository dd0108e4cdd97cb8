package gitops

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/go-git/go-git/v5/plumbing"
)

// Kind says what a targetRevision is.
type Kind string

// The kinds that a release can come by.
const (
	IsBranch     Kind = "branch"
	IsTag        Kind = "tag"        // one version for ever: a revert does not change it
	IsConstraint Kind = "constraint" // the highest tag that satisfies it
)

// Revision is what a targetRevision stands for at the moment.
type Revision struct {
	Kind   Kind
	Name   string // of the branch or tag
	Commit string
}

// RevisionError means that Argo CD would not find releases by a targetRevision.
type RevisionError struct {
	Target, Reason, Advice string
}

func (e *RevisionError) Error() string {
	return fmt.Sprintf("targetRevision %q: %s", e.Target, e.Reason)
}

// Hint says what to write instead.
func (e *RevisionError) Hint() string { return e.Advice }

// CheckRevision says what Argo CD makes of a targetRevision in this repository: the
// branch of repo, a tag that is a full semantic version, or a constraint that a
// tag satisfies. Anything else is a *RevisionError with the reason. Other errors:
// *AuthError, *GoneError, *UnreachableError, *NotFoundError.
func CheckRevision(ctx context.Context, repo Repo, targetRevision string) (Revision, error) {
	repo, err := repo.complete()
	if err != nil {
		return Revision{}, fmt.Errorf("checking targetRevision %q: %w", targetRevision, err)
	}
	ctx, cancel := context.WithTimeout(ctx, repo.Timeout)
	defer cancel()
	for n := 1; ; n++ {
		rev, err := checkRevision(ctx, repo, targetRevision)
		if err == nil {
			return rev, nil
		}
		if !again(err, n) || !pause(ctx, n) {
			return Revision{}, fmt.Errorf("checking %s: %w", repo.URL, err)
		}
	}
}

func checkRevision(ctx context.Context, repo Repo, target string) (Revision, error) {
	r, err := open(ctx, repo)
	if err != nil {
		return Revision{}, err
	}
	defer r.close()
	if name := strings.TrimPrefix(target, "refs/heads/"); name == r.branch {
		commit := r.refs["refs/heads/"+name]
		if commit.IsZero() {
			return Revision{}, &NotFoundError{URL: repo.URL, What: "branch " + name}
		}
		return Revision{IsBranch, name, commit.String()}, nil
	}
	switch {
	case target == "" || target == "HEAD":
		return Revision{}, &RevisionError{
			Target: target, Reason: "it follows whatever the server calls its HEAD",
			Advice: "name the branch, such as " + r.branch + ", a tag such as v1.2.0, or a constraint such as 1.*",
		}
	case isHash(target):
		return Revision{}, &RevisionError{
			Target: target, Reason: "a commit never changes: no release would ever be deployed",
			Advice: "name a branch, a tag such as v1.2.0, or a constraint such as 1.*",
		}
	}
	name := strings.TrimPrefix(target, "refs/tags/")
	if _, err := semver.NewVersion(name); err == nil {
		return r.checkTag(target, name)
	}
	v, err := r.resolve(target)
	return Revision{IsConstraint, v.name, v.commit.String()}, err
}

// checkTag is for what Argo CD takes for the name of one tag.
func (r *remote) checkTag(target, name string) (Revision, error) {
	bare := strings.TrimPrefix(name, "v")
	if _, err := semver.StrictNewVersion(bare); err != nil {
		return Revision{}, &RevisionError{
			Target: target,
			Reason: "an incomplete version is no constraint: Argo CD looks for a tag of exactly this name",
			Advice: fmt.Sprintf("write a constraint, %s.*, or a full version, %s.0", name, name),
		}
	}
	commit := r.tagged(name)
	if commit.IsZero() {
		return Revision{}, &RevisionError{Target: target, Reason: "there is no such tag" + r.offer(), Advice: "push the tag, or name one that exists"}
	}
	return Revision{IsTag, name, commit.String()}, nil
}

// tagged is the commit that a tag points to.
func (r *remote) tagged(name string) plumbing.Hash {
	if commit, ok := r.peeled["refs/tags/"+name]; ok {
		return commit
	}
	return r.refs["refs/tags/"+name]
}

// version is a tag that is a version.
type version struct {
	*semver.Version
	name   string
	commit plumbing.Hash
}

// highest is the highest version among the tags that suit; nil suits all. Of two
// tags for the same version the longer name counts, as it is the whole version.
func (r *remote) highest(suits *semver.Constraints) version {
	var top version
	for ref := range r.refs {
		name, ok := strings.CutPrefix(ref, "refs/tags/")
		if !ok {
			continue
		}
		v, err := semver.NewVersion(name)
		if err != nil || suits != nil && !suits.Check(v) {
			continue
		}
		longer := cmp.Or(cmp.Compare(len(name), len(top.name)), strings.Compare(top.name, name)) > 0
		if top.Version == nil || v.GreaterThan(top.Version) || v.Equal(top.Version) && longer {
			top = version{v, name, r.tagged(name)}
		}
	}
	return top
}

// resolve finds the tag that a constraint stands for, with the library that Argo CD
// resolves it with. Its versions differ in one thing: whether a pre-release suits
// when only a part of the constraint names one (>=1.0.0-0 <2); here it does.
func (r *remote) resolve(target string) (version, error) {
	suits, err := semver.NewConstraint(target)
	if err != nil {
		return version{}, &RevisionError{
			Target: target,
			Reason: fmt.Sprintf("it is neither branch %s nor a version nor a constraint", r.branch),
			Advice: "write the branch of deploy.argocd.revision, a tag such as v1.2.0, or a constraint such as 1.*",
		}
	}
	top := r.highest(suits)
	if top.Version == nil {
		return version{}, &RevisionError{
			Target: target, Reason: "no tag satisfies this constraint" + r.offer(),
			Advice: "push a tag that satisfies it; pre-releases count only if the constraint names one, such as >=1.2.0-0",
		}
	}
	return top, nil
}

// offer names the highest tag, for a message.
func (r *remote) offer() string {
	if top := r.highest(nil); top.Version != nil {
		return fmt.Sprintf("; the highest version is %s", top.name)
	}
	return "; no tag is a version"
}

// next is the tag of the next patch version, which must satisfy the constraint.
func (v version) next(target string) (string, error) {
	suits, err := semver.NewConstraint(target)
	if err != nil {
		return "", fmt.Errorf("targetRevision %q: %w", target, err)
	}
	next := v.IncPatch()
	if !suits.Check(&next) {
		return "", &RevisionError{
			Target: target, Reason: fmt.Sprintf("it allows no version after %s, so Argo CD would not follow a revert", v.name),
			Advice: "widen the constraint, for example ~" + v.name,
		}
	}
	if strings.HasPrefix(v.name, "v") {
		return "v" + next.String(), nil
	}
	return next.String(), nil
}
