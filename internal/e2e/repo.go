package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// repo is a clone of the GitOps repository, as a person has it.
type repo struct {
	dir    string // the work tree
	remote string // where it is pushed to
}

// newRepo makes an empty clone with the branch main.
func newRepo(ctx context.Context, dir, remote string) (*repo, error) {
	r := &repo{dir: dir, remote: remote}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("making the work tree: %w", err)
	}
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", remote}} {
		if _, err := r.git(ctx, args...); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// git runs the command of that name in the work tree.
func (r *repo) git(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Dev", "GIT_AUTHOR_EMAIL=dev@example.com", "GIT_COMMITTER_NAME=Dev", "GIT_COMMITTER_EMAIL=dev@example.com",
		"no_proxy=*")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// pull takes over what others, Sluice among them, have pushed.
func (r *repo) pull(ctx context.Context) (head string, err error) {
	if _, err := r.git(ctx, "fetch", "-q", "--tags", "origin", "main"); err != nil {
		return "", err
	}
	if _, err := r.git(ctx, "reset", "-q", "--hard", "origin/main"); err != nil {
		return "", err
	}
	return r.git(ctx, "rev-parse", "HEAD")
}

// push commits everything and publishes it, with a tag if one is given. It
// returns the commit.
func (r *repo) push(ctx context.Context, message, tag string) (revision string, err error) {
	if _, err := r.git(ctx, "add", "-A"); err != nil {
		return "", err
	}
	if _, err := r.git(ctx, "commit", "-q", "--allow-empty", "-m", message); err != nil {
		return "", err
	}
	what := []string{"push", "-q", "origin", "HEAD:main"}
	if tag != "" {
		if _, err := r.git(ctx, "tag", "-a", "-m", message, tag); err != nil {
			return "", err
		}
		what = append(what, "refs/tags/"+tag)
	}
	if _, err := r.git(ctx, what...); err != nil {
		return "", err
	}
	return r.git(ctx, "rev-parse", "HEAD")
}

// head is the commit of a branch on the server, and its message.
func (r *repo) head(ctx context.Context) (revision, message string, err error) {
	if _, err := r.git(ctx, "fetch", "-q", "--tags", "origin", "main"); err != nil {
		return "", "", err
	}
	if revision, err = r.git(ctx, "rev-parse", "origin/main"); err != nil {
		return "", "", err
	}
	message, err = r.git(ctx, "log", "-1", "--format=%B", revision)
	return revision, message, err
}

// sameTree reports whether a folder is the same in two commits.
func (r *repo) sameTree(ctx context.Context, folder, a, b string) (bool, error) {
	one, err := r.git(ctx, "rev-parse", a+":"+folder)
	if err != nil {
		return false, err
	}
	two, err := r.git(ctx, "rev-parse", b+":"+folder)
	return one == two, err
}
