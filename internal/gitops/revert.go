package gitops

import (
	"context"
	"fmt"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// revert is one attempt.
func revert(ctx context.Context, repo Repo, c Change) (Result, error) {
	r, err := open(ctx, repo)
	if err != nil {
		return Result{}, err
	}
	defer r.close()
	w, err := r.look(ctx, c)
	if err != nil {
		return Result{}, err
	}
	if c.Mode == Branch {
		return r.aside(ctx, c, w)
	}
	return r.onto(ctx, c, w)
}

// view is what a revert needs to know: what the path is in the commits that matter.
type view struct {
	head      plumbing.Hash // of the branch
	headIs    spot
	bad, good spot
	tag       version // that the constraint resolves to; zero without one
	tagIs     spot
}

// look fetches what is needed and says what the path is where.
func (r *remote) look(ctx context.Context, c Change) (view, error) {
	w := view{head: r.refs["refs/heads/"+r.branch]}
	switch {
	case w.head.IsZero() && !r.tagged(r.branch).IsZero():
		return w, &RevisionError{
			Target: r.branch, Reason: "it is a tag, which a commit does not move",
			Advice: "set targetRevision of the Application to the version before, or follow a branch or a constraint such as 1.*",
		}
	case w.head.IsZero():
		return w, &NotFoundError{URL: r.repo.URL, What: "branch " + r.branch}
	}
	bad, good := plumbing.NewHash(c.Bad), plumbing.NewHash(c.Good)
	want := []plumbing.Hash{w.head, bad, good}
	if c.Constraint != "" {
		var err error
		if w.tag, err = r.resolve(c.Constraint); err != nil {
			return w, err
		}
		want = append(want, w.tag.commit)
	}
	if err := r.need(ctx, w.head, want...); err != nil {
		return w, err
	}
	for _, see := range []struct {
		commit plumbing.Hash
		is     *spot
	}{{w.head, &w.headIs}, {bad, &w.bad}, {good, &w.good}, {w.tag.commit, &w.tagIs}} {
		if see.commit.IsZero() {
			continue
		}
		found, err := r.at(see.commit)
		if err != nil {
			return w, err
		}
		*see.is = found
	}
	switch {
	case w.good.none():
		return w, &FirstReleaseError{Path: r.repo.Path, Good: c.Good}
	case w.bad.none():
		return w, &NotFoundError{URL: r.repo.URL, What: fmt.Sprintf("path %s in commit %.12s", r.repo.Path, c.Bad)}
	case w.bad == w.good:
		return w, &UnchangedError{Path: r.repo.Path, Bad: c.Bad, Good: c.Good}
	}
	return w, nil
}

// onto puts the revert on the branch and, if tags are followed, a tag on it.
func (r *remote) onto(ctx context.Context, c Change, w view) (Result, error) {
	res := Result{Commit: w.head.String(), Branch: r.branch, Tag: w.tag.name, Already: true}
	var p push
	if w.headIs != w.good {
		commit, err := r.commit(ctx, c, w)
		if err != nil {
			return Result{}, err
		}
		p.objects, res.Commit, res.Already = commit.objects, commit.hash.String(), false
		p.add("refs/heads/"+r.branch, w.head, commit.hash)
	}
	if w.tag.name != "" && w.tagIs != w.good {
		if w.tagIs != w.bad {
			return Result{}, &MovedOnError{Where: "tag " + w.tag.name, Path: r.repo.Path, Commit: w.tag.commit.String(), Bad: c.Bad}
		}
		next, err := w.tag.next(c.Constraint)
		if err != nil {
			return Result{}, err
		}
		res.Tag, res.Already = next, false
		p.add("refs/tags/"+next, plumbing.ZeroHash, plumbing.NewHash(res.Commit))
	}
	if res.Already {
		return res, nil
	}
	return res, r.push(ctx, p)
}

// aside puts the revert on a branch of its own.
func (r *remote) aside(ctx context.Context, c Change, w view) (Result, error) {
	if w.headIs == w.good {
		return Result{Commit: w.head.String(), Branch: r.branch, Already: true}, nil
	}
	name := fmt.Sprintf("sluice/revert-%s-%.8s", refWord(strings.TrimSpace(c.Name+" "+c.Version)), c.Bad)
	commit, err := r.commit(ctx, c, w) // also when there is one: the head may have moved on the path
	if err != nil {
		return Result{}, err
	}
	have := r.refs["refs/heads/"+name]
	if !have.IsZero() {
		if err := r.need(ctx, have, have); err != nil {
			return Result{}, err
		}
		if is, err := r.at(have); err != nil || is == w.good {
			return Result{Commit: have.String(), Branch: name, Already: true}, err
		}
	}
	var p push
	p.objects = commit.objects
	p.add("refs/heads/"+name, have, commit.hash)
	return Result{Commit: commit.hash.String(), Branch: name}, r.push(ctx, p)
}

// made is a commit that is not pushed yet, and the objects that are new with it.
type made struct {
	hash    plumbing.Hash
	objects []plumbing.EncodedObject
}

// commit makes the revert on top of the head.
func (r *remote) commit(ctx context.Context, c Change, w view) (made, error) {
	if w.headIs != w.bad {
		return made{}, &MovedOnError{
			Where: "branch " + r.branch, Path: r.repo.Path, Commit: r.mover(ctx, w.head, w.headIs).String(), Bad: c.Bad,
		}
	}
	root, err := r.root(w.head)
	if err != nil {
		return made{}, err
	}
	tree, objects, err := r.graft(root, r.repo.Path, w.good)
	if err != nil {
		return made{}, err
	}
	commit := encodeCommit(tree, w.head, c, r.repo.Path)
	return made{commit.Hash(), append(objects, commit)}, nil
}

// mover is the newest commit that gave the path what it is at the head, as far
// as the history can be seen.
func (r *remote) mover(ctx context.Context, head plumbing.Hash, is spot) plumbing.Hash {
	if r.deepen(ctx, head) != nil {
		return head
	}
	for at := head; ; {
		parent, ok := r.parent(at)
		if !ok {
			return at
		}
		if was, err := r.at(parent); err != nil || was != is {
			return at
		}
		at = parent
	}
}

// refWord makes a word part of a branch's name.
func refWord(s string) string {
	out := make([]rune, 0, len(s))
	for _, c := range s {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		case c == '.' && len(out) > 0 && out[len(out)-1] != '.':
		default:
			c = '-'
		}
		out = append(out, c)
	}
	return string(out)
}
